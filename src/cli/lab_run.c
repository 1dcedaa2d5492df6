/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start order: the network and its traffic (children without a loop of their own,
 * so before ours is made), the agents with a forwarded port each, and when all of them
 * are ready the server, so that its first scrape finds data. The end of any child is the
 * end of the lab. The children die with this process, and the hosts with the last
 * descriptor, so there is nothing to clean up behind a crash.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include "cli/lab.h"
#include "lib/clock.h"
#include "lib/user.h"

#define READY_POLL_NS (20 * NS_PER_MS)
#define READY_DEADLINE_NS (90 * NS_PER_SEC) /* all agents load their programs at the same time, on whatever machine this is */
#define STOP_DEADLINE_NS (10 * NS_PER_SEC)
#define SERVER_STATE "/tmp" /* of a mount namespace of its own */
#define ARGUMENTS_MAX 8

static void fail(struct lab *lab, const char *what)
{
	fprintf(stderr, "netsonde lab: %s\n", what);
	lab->status = 1;
	lab_stop(lab);
}

static bool daemons_left(const struct lab *lab)
{
	bool left = lab->server != 0;
	for (size_t i = 0; i < lab->n_agents; i++)
		left = left || lab->agents[i].pid;
	return left;
}

static void daemons_signal(const struct lab *lab, int signum)
{
	if (lab->server)
		kill(lab->server, signum);
	for (size_t i = 0; i < lab->n_agents; i++)
		if (lab->agents[i].pid)
			kill(lab->agents[i].pid, signum);
}

void lab_stop(struct lab *lab)
{
	if (lab->stopping)
		return;
	lab->stopping = true;
	loop_timer_stop(lab->poll);
	daemons_signal(lab, SIGTERM);
	loop_timer_start(lab->deadline, STOP_DEADLINE_NS, 0);
	if (!daemons_left(lab))
		loop_stop(lab->loop);
}

static void on_deadline(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct lab *lab = userdata;
	if (!lab->stopping) {
		fail(lab, "not ready after 90 s; stopping");
		return;
	}
	fputs("netsonde lab: still not ended after 10 s; killing\n", stderr);
	lab->status = 1;
	daemons_signal(lab, SIGKILL);
}

static void on_end(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	lab_stop(userdata);
}

/* Whose end this is, as a name; forgets the pid. */
static const char *child_ended(struct lab *lab, pid_t pid, char buf[static 64])
{
	const char *program = traffic_ended(lab->traffic, pid);
	int host = topology_ended(lab->topology, pid);
	if (program)
		snprintf(buf, 64, "%s", program);
	else if (host >= 0)
		snprintf(buf, 64, "the link of %s", scenario_hosts[host].name);
	else
		snprintf(buf, 64, "a process");
	if (pid == lab->server) {
		lab->server = 0;
		snprintf(buf, 64, "the server");
	}
	for (size_t i = 0; i < lab->n_agents; i++)
		if (lab->agents[i].pid == pid) {
			lab->agents[i].pid = 0;
			snprintf(buf, 64, "the agent of %s", scenario_hosts[lab->agents[i].host].name);
		}
	return buf;
}

static void reap(struct lab *lab)
{
	char name[64], text[160];
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		child_ended(lab, pid, name);
		if (lab->stopping) {
			if (WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) != SIGTERM)
				lab->status = 1;
		} else if (WIFSIGNALED(status)) {
			snprintf(text, sizeof(text), "%s was killed by signal %d (%s); stopping", name, WTERMSIG(status),
				 strsignal(WTERMSIG(status)));
			fail(lab, text);
		} else {
			snprintf(text, sizeof(text), "%s ended with exit status %d; stopping", name, WEXITSTATUS(status));
			fail(lab, text);
		}
	}
	if (lab->stopping && !daemons_left(lab))
		loop_stop(lab->loop);
}

static void on_signal(struct loop_signal *sig, int signum, void *userdata)
{
	struct lab *lab = userdata;
	if (signum == SIGCHLD)
		reap(lab);
	else
		lab_stop(lab);
}

/* ---- agents and server ---- */

struct daemon { const char *name; const struct lab *lab; const char *listen; int config; bool own_state; };

/* A tmpfs that nobody else sees: a lab that was killed leaves no database behind. */
static int state_make(struct error *error)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", SERVER_STATE, "tmpfs", MS_NOSUID | MS_NODEV, NULL) < 0)
		return error_set_errno(error, -errno, "cannot make a place for the database");
	setenv("STATE_DIRECTORY", SERVER_STATE "/netsonde", 1);
	return 0;
}

static int daemon_child(struct host *host, void *argument, struct error *error)
{
	const struct daemon *daemon = argument;
	const struct lab_flags *f = daemon->lab->flags;
	char *arguments[ARGUMENTS_MAX] = { (char *)(uintptr_t)"netsonde", (char *)(uintptr_t)daemon->name };
	char supervisor[32];
	int r = daemon->own_state ? state_make(error) : 0;
	if (r < 0)
		return r;
	snprintf(supervisor, sizeof(supervisor), "%ld", (long)getppid());
	setenv(USER_SUPERVISOR_VARIABLE, supervisor, 1); /* see lib/user.h */
	if (fcntl(daemon->config, F_SETFD, 0) < 0 ||
	    asprintf(&arguments[2], "--config.file=/proc/self/fd/%d", daemon->config) < 0 ||
	    asprintf(&arguments[3], "--web.listen-address=%s", daemon->listen) < 0 ||
	    asprintf(&arguments[4], "--user=%s", f->user) < 0 || asprintf(&arguments[5], "--log.level=%s", f->log_level) < 0)
		return error_set(error, -ENOMEM, "out of memory");
	execv("/proc/self/exe", arguments);
	return error_set_errno(error, -errno, "cannot start netsonde");
}

static pid_t daemon_start(struct host *host, const struct daemon *daemon)
{
	return host_start(host, &(struct host_process){ .fn = daemon_child, .argument = (void *)(uintptr_t)daemon,
							.input = -1, .output = -1, .keep = daemon->config });
}

static int agent_start(struct lab *lab, struct lab_agent *agent, struct error *error)
{
	struct host *host = topology_host(lab->topology, agent->host);
	char listen[32];
	int r = forward_new(lab->loop, host, LAB_AGENT_PORT, &agent->forward, error);
	if (r < 0)
		return r;
	agent->config = lab_config_agent(lab, agent);
	if (agent->config < 0)
		return error_set_errno(error, agent->config, "cannot write a configuration");
	snprintf(listen, sizeof(listen), "127.0.0.1:%d", LAB_AGENT_PORT);
	pid_t pid = daemon_start(host, &(struct daemon){ "agent", lab, listen, agent->config, false });
	if (pid < 0)
		return error_set_errno(error, (int)pid, "cannot start an agent");
	agent->pid = pid;
	return 0;
}

static void server_start(struct lab *lab)
{
	lab->server_config = lab_config_server(lab);
	pid_t pid = lab->server_config < 0 ? lab->server_config :
		    daemon_start(NULL, &(struct daemon){ "server", lab, lab->flags->listen, lab->server_config, true });
	if (pid < 0)
		fail(lab, "cannot start the server");
	else
		lab->server = pid;
}

/* Where a listener on `listen` is reached from this machine: all addresses means loopback. */
static const char *reach(const char *listen, char *buf, size_t size)
{
	const char *port = strrchr(listen, ':');
	bool any4 = port == listen || !strncmp(listen, "0.0.0.0:", 8), any6 = !strncmp(listen, "[::]:", 5);
	snprintf(buf, size, "%s%s", any4 ? "127.0.0.1" : any6 ? "[::1]" : "", any4 || any6 ? port : listen);
	return buf;
}

static void tell_ready(struct lab *lab)
{
	char address[128];
	printf("\n  NetSonde's demonstration network is up.\n  Dashboard  http://%s/\n",
	       reach(lab->flags->listen, address, sizeof(address)));
	for (size_t i = 0; i < lab->n_agents; i++)
		printf("  Agent      http://127.0.0.1:%u/metrics   %s\n", forward_port(lab->agents[i].forward),
		       scenario_hosts[lab->agents[i].host].name);
	printf("  Inside     netsonde lab exec client-a netsonde ping web   (in another terminal, as root)\n"
	       "  Commands   type `help`; Ctrl-C ends everything.\n\n");
	fflush(stdout);
}

static void everything_is_ready(struct lab *lab)
{
	struct error error = { "" };
	lab->ready = true;
	loop_timer_stop(lab->poll);
	loop_timer_stop(lab->deadline);
	tell_ready(lab);
	int r = lab_control_start(lab, &error);
	if (!r && lab->flags->duration_ns)
		r = loop_timer_start(lab->end, lab->flags->duration_ns, 0);
	if (r < 0)
		fail(lab, *error.text ? error.text : "cannot start a timer");
}

/* The agent that is not ready yet; NULL: all are. */
static struct lab_agent *agent_waited_for(struct lab *lab)
{
	for (size_t i = 0; i < lab->n_agents; i++)
		if (!lab->agents[i].ready)
			return &lab->agents[i];
	return NULL;
}

static void on_answer(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct lab *lab = userdata;
	struct lab_agent *agent = agent_waited_for(lab);
	lab->asking = false;
	if (response->r || response->status != 200 || lab->stopping)
		return;
	if (!agent) {
		everything_is_ready(lab);
		return;
	}
	agent->ready = true;
	if (!agent_waited_for(lab))
		server_start(lab);
}

/* One question at a time: to each agent, then to the server. */
static void on_poll(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct lab *lab = userdata;
	struct lab_agent *agent = agent_waited_for(lab);
	struct fetch_request request = { .timeout_ns = NS_PER_SEC };
	char url[160], address[128];
	if (lab->asking)
		return;
	if (agent)
		snprintf(address, sizeof(address), "127.0.0.1:%u", forward_port(agent->forward));
	else
		reach(lab->flags->listen, address, sizeof(address));
	snprintf(url, sizeof(url), "http://%s/-/ready", address);
	request.url = url;
	lab->asking = fetch_start(lab->fetch, &request, on_answer, lab, NULL, NULL) == 0;
}

/* ---- the life of a lab ---- */

static int loop_setup(struct lab *lab, struct error *error)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	int r = loop_new(&lab->loop);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals) && !r; i++)
		r = loop_signal_new(lab->loop, signals[i], on_signal, lab, &lab->signals[i]);
	if (!r)
		r = fetch_new(lab->loop, 2, &lab->fetch);
	if (!r)
		r = loop_timer_new(lab->loop, on_poll, lab, &lab->poll);
	if (!r)
		r = loop_timer_new(lab->loop, on_deadline, lab, &lab->deadline);
	if (!r)
		r = loop_timer_new(lab->loop, on_end, lab, &lab->end);
	return r < 0 ? error_set_errno(error, r, "cannot make a loop") : 0;
}

static int start(struct lab *lab, struct error *error)
{
	int r = topology_new(scenario_hosts, scenario_n_hosts, traffic_files, traffic_n_files, &lab->topology, error);
	if (!r)
		r = traffic_start(lab->topology, &lab->traffic, error);
	if (!r)
		r = loop_setup(lab, error);
	if (r < 0)
		return r;
	if (lab_door_open(lab) < 0)
		fputs("netsonde lab: another lab is running here; `netsonde lab exec` goes to that one\n", stderr);
	for (size_t i = 0; i < lab->flags->agents.n; i++)
		lab->agents[i] = (struct lab_agent){
			.host = (size_t)topology_find(scenario_hosts, scenario_n_hosts, lab->flags->agents.items[i], NULL),
			.config = -1,
		};
	lab->n_agents = lab->flags->agents.n;
	for (size_t i = 0; !r && i < lab->n_agents; i++)
		r = agent_start(lab, &lab->agents[i], error);
	if (!r)
		r = loop_timer_start(lab->poll, READY_POLL_NS, READY_POLL_NS);
	if (!r)
		r = loop_timer_start(lab->deadline, READY_DEADLINE_NS, 0);
	return r;
}

static void done(struct lab *lab)
{
	daemons_signal(lab, SIGKILL); /* none is left but after a failed start */
	fetch_free(lab->fetch);
	lab_control_done(lab);
	lab_door_done(lab);
	for (size_t i = 0; i < lab->n_agents; i++) {
		forward_free(lab->agents[i].forward);
		if (lab->agents[i].config >= 0)
			close(lab->agents[i].config);
	}
	if (lab->server_config >= 0)
		close(lab->server_config);
	loop_timer_free(lab->poll);
	loop_timer_free(lab->deadline);
	loop_timer_free(lab->end);
	for (size_t i = 0; i < sizeof(lab->signals) / sizeof(lab->signals[0]); i++)
		loop_signal_free(lab->signals[i]);
	loop_free(lab->loop);
	traffic_free(lab->traffic);
	topology_free(lab->topology);
}

int lab_run(const struct lab_flags *flags)
{
	struct lab lab = { .flags = flags, .door = -1, .server_config = -1 };
	struct error error = { "" };
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTIN, SIG_IGN); /* in the background of a terminal: no commands, and no stop */
	int r = start(&lab, &error);
	if (!r) {
		r = loop_run(lab.loop);
		if (r < 0)
			error_set_errno(&error, r, "the loop broke");
	}
	if (r < 0)
		fprintf(stderr, "netsonde lab: %s\n", error.text);
	done(&lab);
	return r < 0 ? 1 : lab.status;
}
