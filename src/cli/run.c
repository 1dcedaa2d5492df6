/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde run`: agent and server of this host, as two processes of this same
 * binary. This process only supervises: it starts them, tells where the
 * dashboard is once both are ready, passes signals on, and ends both when one ends.
 * The server pulls the agent over loopback, as it would a remote one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/commands.h"
#include "lib/clock.h"
#include "lib/fetch.h"
#include "lib/loop.h"
#include "lib/settings.h"
#include "lib/user.h"

#define READY_POLL_NS (10 * NS_PER_MS)
#define READY_DEADLINE_NS (20 * NS_PER_SEC)
/* A child that does not end by then is killed: it holds nothing that a kill could lose (the store is crash-safe). */
#define STOP_DEADLINE_NS (10 * NS_PER_SEC)

struct run_flags {
	const char *config_file, *agent_listen, *listen, *store_path, *user, *log_level, *log_format;
};

static const struct flag flags[] = {
	{ .name = "config.file", .type = FLAG_STRING, .offset = offsetof(struct run_flags, config_file), .value = "FILE",
	  .help = "Configuration file of both; `netsonde check --print-example` shows every key." },
	{ .name = "web.listen-address", .type = FLAG_STRING, .offset = offsetof(struct run_flags, listen), .value = "ADDRESS:PORT",
	  .help = "Where to serve the dashboard." },
	{ .name = "agent.listen-address", .type = FLAG_STRING, .offset = offsetof(struct run_flags, agent_listen), .value = "ADDRESS:PORT",
	  .help = "Where the agent serves its metrics." },
	{ .name = "store.path", .type = FLAG_STRING, .offset = offsetof(struct run_flags, store_path), .value = "FILE",
	  .help = "Database file." },
	{ .name = "user", .type = FLAG_STRING, .offset = offsetof(struct run_flags, user), .value = "USER",
	  .help = "Whom both processes become: a user name or uid, or auto for the caller of sudo, else nobody." },
	{ .name = "log.level", .type = FLAG_CHOICE, .offset = offsetof(struct run_flags, log_level), .choices = "debug|info|warn|error",
	  .help = "Least severity that is logged." },
	{ .name = "log.format", .type = FLAG_CHOICE, .offset = offsetof(struct run_flags, log_format), .choices = "logfmt|json",
	  .help = "Format of the log on standard error." },
	{ 0 }
};

const struct flag_command run_command = {
	.name = "run",
	.summary = "watch this host: agent, server and dashboard together",
	.description = "Starts the agent and the server of this host as two processes and prints the address of the dashboard. Needs "
		       "root for the agent; the server becomes an unprivileged user. Ctrl-C or SIGTERM ends both.",
	.flags = flags,
};

enum { AGENT, SERVER, N_CHILDREN };
static const char *const child_names[N_CHILDREN] = { "agent", "server" };

struct run {
	const struct run_flags *flags;
	struct loop *loop;
	struct fetch *fetch;
	struct loop_timer *poll, *deadline;
	struct loop_signal *signals[4];
	pid_t pids[N_CHILDREN];       /* 0: not running */
	bool asking;                  /* a question is under way */
	bool stopping;
	int stop_signal;
	int status;
};

static void stop(struct run *run, int signum)
{
	run->stopping = true;
	run->stop_signal = signum;
	loop_timer_stop(run->poll);
	for (size_t i = 0; i < N_CHILDREN; i++)
		if (run->pids[i])
			kill(run->pids[i], signum);
	loop_timer_start(run->deadline, STOP_DEADLINE_NS, 0);
	if (!run->pids[AGENT] && !run->pids[SERVER])
		loop_stop(run->loop);
}

static void fail(struct run *run, const char *what)
{
	fprintf(stderr, "netsonde run: %s\n", what);
	run->status = 1;
	if (!run->stopping)
		stop(run, SIGTERM);
}

static void on_deadline(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct run *run = userdata;

	if (!run->stopping) {
		fail(run, "not ready after 20 s; stopping");
		return;
	}
	fprintf(stderr, "netsonde run: still not ended after 10 s; killing\n");
	run->status = 1;
	for (size_t i = 0; i < N_CHILDREN; i++)
		if (run->pids[i])
			kill(run->pids[i], SIGKILL);
}

static void reap(struct run *run)
{
	char text[160];
	int status;

	for (size_t i = 0; i < N_CHILDREN; i++) {
		if (!run->pids[i] || waitpid(run->pids[i], &status, WNOHANG) != run->pids[i])
			continue;
		run->pids[i] = 0;
		if (run->stopping) {
			/* A child that had no handler yet ends by the signal itself. */
			if (WIFEXITED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) != run->stop_signal)
				run->status = 1;
		} else {
			if (WIFSIGNALED(status))
				snprintf(text, sizeof(text), "the %s was killed by signal %d (%s); stopping", child_names[i], WTERMSIG(status),
					 strsignal(WTERMSIG(status)));
			else
				snprintf(text, sizeof(text), "the %s ended with exit status %d; stopping", child_names[i], WEXITSTATUS(status));
			fail(run, text);
		}
	}
	if (!run->pids[AGENT] && !run->pids[SERVER])
		loop_stop(run->loop);
}

static void on_signal(struct loop_signal *sig, int signum, void *userdata)
{
	struct run *run = userdata;

	if (signum == SIGCHLD) {
		reap(run);
	} else if (signum == SIGHUP) {
		for (size_t i = 0; i < N_CHILDREN; i++)
			if (run->pids[i])
				kill(run->pids[i], SIGHUP);
	} else if (!run->stopping) {
		stop(run, signum);
	}
}

static pid_t spawn(char *const argv[])
{
	static const int handled[] = { SIGTERM, SIGINT, SIGCHLD };
	pid_t parent = getpid(), pid;
	char supervisor[32];
	sigset_t all, before;

	/* No signal may meet our handlers in the child: they would write into our own loop. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		return pid;
	}
	for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
		signal(handled[i], SIG_DFL);
	signal(SIGHUP, SIG_IGN); /* until the child has its own handler */
	setpgid(0, 0); /* Ctrl-C comes to us alone, and from us to the children, once */
	/* exec of a file with capabilities forgets the parent-death signal: the child renews it (lib/user.c). */
	snprintf(supervisor, sizeof(supervisor), "%ld", (long)parent);
	setenv(USER_SUPERVISOR_VARIABLE, supervisor, 1);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	sigprocmask(SIG_SETMASK, &before, NULL);
	execv("/proc/self/exe", argv);
	fprintf(stderr, "netsonde run: cannot start %s: %s\n", argv[1], strerror(errno));
	_exit(1);
}

/* Where a listener on `listen` is reached from this host: all addresses means loopback. */
static const char *reach(const char *listen, char *buf, size_t size)
{
	const char *port = strrchr(listen, ':');
	bool any4 = port == listen || !strncmp(listen, "0.0.0.0:", 8), any6 = !strncmp(listen, "[::]:", 5);

	snprintf(buf, size, "%s%s", any4 ? "127.0.0.1" : any6 ? "[::1]" : "", any4 || any6 ? port : listen);
	return buf;
}

#define ARGUMENTS_MAX 16

struct arguments { char *items[ARGUMENTS_MAX + 1]; size_t n; }; /* the last one stays NULL */

static void argument(struct arguments *a, const char *format, const char *value)
{
	if (value && a->n < ARGUMENTS_MAX && asprintf(&a->items[a->n], format, value) >= 0)
		a->n++;
}

static void arguments_done(struct arguments *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->items[i]);
}

static pid_t start_agent(const struct run_flags *f)
{
	struct arguments a = { 0 };
	pid_t pid;

	argument(&a, "%s", "netsonde");
	argument(&a, "%s", "agent");
	argument(&a, "--config.file=%s", f->config_file);
	argument(&a, "--web.listen-address=%s", f->agent_listen);
	argument(&a, "--user=%s", f->user);
	argument(&a, "--log.level=%s", f->log_level);
	argument(&a, "--log.format=%s", f->log_format);
	pid = spawn(a.items);
	arguments_done(&a);
	return pid;
}

static pid_t start_server(const struct run_flags *f)
{
	struct arguments a = { 0 };
	char agent[128];
	pid_t pid;

	argument(&a, "%s", "netsonde");
	argument(&a, "%s", "server");
	argument(&a, "--config.file=%s", f->config_file);
	argument(&a, "--web.listen-address=%s", f->listen);
	argument(&a, "--store.path=%s", f->store_path);
	argument(&a, "--local-agent=http://%s/metrics", reach(f->agent_listen, agent, sizeof(agent)));
	argument(&a, "--user=%s", f->user);
	argument(&a, "--log.level=%s", f->log_level);
	argument(&a, "--log.format=%s", f->log_format);
	pid = spawn(a.items);
	arguments_done(&a);
	return pid;
}

static void start_child(struct run *run, size_t child)
{
	pid_t pid = child == AGENT ? start_agent(run->flags) : start_server(run->flags);

	if (pid < 0)
		fail(run, "cannot start a process");
	else
		run->pids[child] = pid;
}

static void on_ready(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct run *run = userdata;
	char dashboard[128], metrics[128];

	run->asking = false;
	if (response->r || response->status != 200 || run->stopping)
		return;
	if (!run->pids[SERVER]) { /* the agent is ready: its first scrape will find data */
		start_child(run, SERVER);
		return;
	}
	loop_timer_stop(run->poll);
	loop_timer_stop(run->deadline);
	printf("\n  NetSonde %s watches this host.\n  Dashboard  http://%s/\n  Metrics    http://%s/metrics\n  Stop with Ctrl-C.\n\n",
	       NETSONDE_VERSION, reach(run->flags->listen, dashboard, sizeof(dashboard)),
	       reach(run->flags->agent_listen, metrics, sizeof(metrics)));
	fflush(stdout);
}

/* One question at a time: the agent until the server is started, then the server. */
static void on_poll(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct run *run = userdata;
	struct fetch_request request = { .timeout_ns = NS_PER_SEC };
	char url[160], address[128];

	if (run->asking)
		return;
	snprintf(url, sizeof(url), "http://%s/-/ready",
		 reach(run->pids[SERVER] ? run->flags->listen : run->flags->agent_listen, address, sizeof(address)));
	request.url = url;
	run->asking = fetch_start(run->fetch, &request, on_ready, run, NULL, NULL) == 0;
}

static int start(struct run *run)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	int r = loop_new(&run->loop);

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && !r; i++)
		r = loop_signal_new(run->loop, signals[i], on_signal, run, &run->signals[i]);
	if (!r)
		r = fetch_new(run->loop, 2, &run->fetch);
	if (!r)
		r = loop_timer_new(run->loop, on_poll, run, &run->poll);
	if (!r)
		r = loop_timer_new(run->loop, on_deadline, run, &run->deadline);
	if (r < 0)
		return r;
	start_child(run, AGENT);
	loop_timer_start(run->poll, READY_POLL_NS, READY_POLL_NS);
	return loop_timer_start(run->deadline, READY_DEADLINE_NS, 0);
}

/* Both must know the ports before they start: the children's own choice would not come back to us. */
static int check_flags(const struct run_flags *f)
{
	const char *addresses[] = { f->listen, f->agent_listen };

	for (size_t i = 0; i < 2; i++) {
		const char *colon = strrchr(addresses[i], ':');

		if (!colon || !strtoul(colon + 1, NULL, 10)) {
			fprintf(stderr, "netsonde run: `%s`: an address and a port are needed, such as 127.0.0.1:9436\n", addresses[i]);
			return 2;
		}
	}
	if (!strcmp(f->listen, f->agent_listen)) {
		fprintf(stderr, "netsonde run: agent and server cannot share %s\n", f->listen);
		return 2;
	}
	return 0;
}

int cmd_run(int argc, char **argv)
{
	struct run_flags f = { .agent_listen = "127.0.0.1:9435", .listen = "127.0.0.1:9436", .user = "auto",
			       .log_level = "warn", .log_format = "logfmt" };
	struct run run = { .flags = &f };
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	struct error error = { "" };
	int r = flags_parse(&run_command, argc, argv, &f, NULL, NULL, &error);

	if (r == FLAGS_E_HELP)
		return 0;
	if (r < 0) {
		fprintf(stderr, "netsonde run: %s\n", error.text);
		return 2;
	}
	if (check_flags(&f))
		return 2;
	r = settings_load(f.config_file, &settings, &errors);
	if (r < 0) {
		fputs(errors.data ? errors.data : "netsonde run: out of memory\n", stderr);
		buffer_done(&errors);
		return 1;
	}
	buffer_done(&errors);
	settings_done(&settings); /* only to report mistakes once, before anything starts; both read it themselves */
	signal(SIGPIPE, SIG_IGN);
	r = start(&run);
	if (!r)
		r = loop_run(run.loop);
	if (r < 0)
		fprintf(stderr, "netsonde run: %s\n", strerror(-r));
	fetch_free(run.fetch);
	loop_timer_free(run.poll);
	loop_timer_free(run.deadline);
	for (size_t i = 0; i < sizeof(run.signals) / sizeof(run.signals[0]); i++)
		loop_signal_free(run.signals[i]);
	loop_free(run.loop);
	return r < 0 ? 1 : run.status;
}
