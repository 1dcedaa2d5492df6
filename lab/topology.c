/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "lab/relay_run.h"
#include "lab/topology.h"
#include "lib/buffer.h"
#include "lib/flags.h"

#define ANSWER_MS 10000
#define RELAY_MEMORY_MB 64
/* What turns every setting off; a row's own settings go behind it. */
#define LINK_CLEAR "both delay=0 jitter=0 distribution=uniform loss=0 duplicate=0 reorder=0 rate=0 queue=100ms"
/* Until an address of its own is known to be nobody else's, which takes two seconds, a router resolves no neighbours. */
#define NO_DAD "/proc/sys/net/ipv6/conf/default/accept_dad"

struct node {
	const struct topology_host *row;
	struct host *host, *between; /* between: the relay's */
	pid_t relay;                 /* 0: none */
	int input, output;           /* of the relay */
	char answer[4096];
	size_t answer_len;
};

struct topology { struct node nodes[TOPOLOGY_HOSTS_MAX]; size_t n; struct host *router; };

size_t topology_count(const struct topology *topology)
{
	return topology->n;
}

const struct topology_host *topology_row(const struct topology *topology, size_t i)
{
	return topology->nodes[i].row;
}

struct host *topology_host(const struct topology *topology, size_t i)
{
	return topology->nodes[i].host;
}

struct host *topology_router(const struct topology *topology)
{
	return topology->router;
}

int topology_find(const struct topology_host *hosts, size_t n_hosts, const char *name, struct error *ret_error)
{
	const char *names[TOPOLOGY_HOSTS_MAX];
	for (size_t i = 0; i < n_hosts; i++) {
		names[i] = hosts[i].name;
		if (!strcmp(name, names[i]))
			return (int)i;
	}
	const char *nearest = flags_nearest(name, names, n_hosts);
	return nearest ? error_set(ret_error, -ENOENT, "there is no host `%s`; did you mean `%s`?", name, nearest) :
			 error_set(ret_error, -ENOENT, "there is no host `%s`", name);
}

const char *topology_address(size_t i, int family, char buf[static ADDRESS_TEXT_MAX])
{
	snprintf(buf, ADDRESS_TEXT_MAX, family == AF_INET ? "198.18.%zu.2" : "2001:db8:%zu::2", i + 1);
	return buf;
}

/* ---- ip(8) ---- */

static pid_t ip_start(int input, int output)
{
	pid_t pid = fork();
	if (pid)
		return pid;
	if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
		_exit(126);
	const char *path = getenv("PATH");
	char all[4096];
	/* An ordinary user's PATH, which sudo may keep, has no place for system programs. */
	snprintf(all, sizeof(all), "%s:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin");
	setenv("PATH", all, 1);
	execlp("ip", "ip", "-batch", "-", (char *)NULL);
	_exit(127);
}

/* The commands fit in a pipe (64 kB), and so does what ip says, so nobody waits for anybody. */
static int ip_batch(const struct buffer *commands, struct error *error)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, status = 0;
	char said[512];
	if (!buffer_ok(commands) || commands->len > 60000 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return error_set(error, -ENOMEM, "cannot start ip");
	pid_t pid = ip_start(in[0], out[1]);
	close(in[0]);
	close(out[1]);
	ssize_t written = write(in[1], commands->data, commands->len);
	close(in[1]);
	ssize_t n = read(out[0], said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	close(out[0]);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return error_set(error, -ECHILD, "cannot start ip");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return error_set(error, -ENOENT, "there is no ip command: the lab needs the package iproute2");
	if (status || written != (ssize_t)commands->len)
		return error_set(error, -EIO, "ip cannot configure the network: %s", said);
	return 0;
}

/* Packets leave the device complete: with their checksums, and so not longer than its MTU. */
static int packets_finish(const char *device, struct error *error)
{
	struct ethtool_value off = { .cmd = ETHTOOL_STXCSUM };
	struct ifreq ifr = { .ifr_data = (char *)&off };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", device);
	int r = fd < 0 || ioctl(fd, SIOCETHTOOL, &ifr) < 0 ?
		error_set_errno(error, -errno, "cannot turn checksum offload of %s off", device) : 0;
	if (fd >= 0)
		close(fd);
	return r;
}

static int sysctl_write(const char *path, const char *value, struct error *error)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 || write(fd, value, strlen(value)) < 0 ? error_set_errno(error, -errno, "cannot write %s", path) : 0;
	if (fd >= 0)
		close(fd);
	return r;
}

/* A veth pair whose far end is in the relay's namespace, and this end's addresses. */
static void device_commands(const char *device, const struct node *node, const char *far, size_t number, int last,
			    struct buffer *out)
{
	buffer_printf(out, "link add %s type veth peer name %s netns /proc/%ld/fd/%d\n", device, far, (long)getppid(),
		      host_namespace(node->between, HOST_NET));
	buffer_printf(out, "address add 198.18.%zu.%d/24 dev %s\n", number, last, device);
	buffer_printf(out, "address add 2001:db8:%zu::%d/64 dev %s nodad\n", number, last, device);
	buffer_printf(out, "link set %s up\n", device);
}

static int host_configure(struct host *host, void *argument, struct error *error)
{
	struct topology *topology = argument;
	struct buffer commands = BUFFER_INIT;
	size_t i = 0;
	while (topology->nodes[i].host != host)
		i++;
	device_commands("eth0", &topology->nodes[i], "a", i + 1, 2, &commands);
	buffer_printf(&commands, "route add default via 198.18.%zu.1\nroute add default via 2001:db8:%zu::1\n", i + 1, i + 1);
	/* What one connection learned in a bad minute must not slow the next. */
	int r = sysctl_write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1", error);
	if (!r)
		r = sysctl_write(NO_DAD, "0", error);
	if (!r)
		r = ip_batch(&commands, error);
	if (!r)
		r = packets_finish("eth0", error);
	buffer_done(&commands);
	return r;
}

static int router_configure(struct host *host, void *argument, struct error *error)
{
	struct topology *topology = argument;
	struct buffer commands = BUFFER_INIT;
	int r = sysctl_write("/proc/sys/net/ipv4/ip_forward", "1", error);
	if (!r)
		r = sysctl_write(NO_DAD, "0", error);
	if (!r)
		r = sysctl_write("/proc/sys/net/ipv6/conf/all/forwarding", "1", error);
	for (size_t i = 0; i < topology->n; i++)
		device_commands(topology->nodes[i].row->name, &topology->nodes[i], "b", i + 1, 1, &commands);
	if (!r)
		r = ip_batch(&commands, error);
	for (size_t i = 0; !r && i < topology->n; i++)
		r = packets_finish(topology->nodes[i].row->name, error);
	buffer_done(&commands);
	return r;
}

/* The relay's namespace is a wire and has no say of its own. */
static int between_configure(struct host *host, void *argument, struct error *error)
{
	int r = sysctl_write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1", error);
	return r ? r : sysctl_write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", error);
}

/* ---- relays ---- */

static int relay_child(struct host *host, void *argument, struct error *error)
{
	const struct node *node = argument;
	const struct relay_options options = {
		.devices = { "a", "b" }, .both = node->row->link, .seed = 1, .memory_mb = RELAY_MEMORY_MB,
	};
	return relay_run(&options, error);
}

static int relay_start(struct node *node, struct error *error)
{
	int in[2], out[2];
	if (pipe2(in, O_CLOEXEC) < 0)
		return error_set_errno(error, -errno, "cannot make a pipe");
	if (pipe2(out, O_CLOEXEC) < 0) {
		close(in[0]);
		close(in[1]);
		return error_set_errno(error, -errno, "cannot make a pipe");
	}
	pid_t pid = host_start(node->between, &(struct host_process){
		.title = "lab-relay", .fn = relay_child, .argument = node, .input = in[0], .output = out[1], .keep = -1 });
	close(in[0]);
	close(out[1]);
	node->input = in[1];
	node->output = out[0];
	if (pid < 0)
		return error_set_errno(error, (int)pid, "cannot start a relay");
	node->relay = pid;
	return 0;
}

/* The next line that the relay says; the lines are questions' answers, so none is waiting. */
static int relay_answer(struct node *node, struct error *error)
{
	char *end;
	node->answer_len = 0;
	do {
		struct pollfd readable = { .fd = node->output, .events = POLLIN };
		size_t room = sizeof(node->answer) - 1 - node->answer_len;
		ssize_t n = -1;
		if (room && poll(&readable, 1, ANSWER_MS) > 0)
			n = read(node->output, node->answer + node->answer_len, room);
		if (n <= 0)
			return error_set(error, -EPIPE, "the link of %s does not answer", node->row->name);
		node->answer_len += (size_t)n;
		node->answer[node->answer_len] = '\0';
		end = strchr(node->answer, '\n');
	} while (!end);
	*end = '\0';
	return 0;
}

static int relay_ask(struct node *node, const char *line, struct error *error)
{
	struct buffer text = BUFFER_INIT;
	buffer_printf(&text, "%s\n", line);
	bool sent = buffer_ok(&text) && write(node->input, text.data, text.len) == (ssize_t)text.len;
	buffer_done(&text);
	return sent ? relay_answer(node, error) : error_set(error, -EPIPE, "the link of %s has ended", node->row->name);
}

int topology_set(struct topology *topology, size_t i, const char *settings, struct error *ret_error)
{
	struct node *node = &topology->nodes[i];
	int r = relay_ask(node, settings, ret_error);
	if (r < 0 || !strcmp(node->answer, "ok"))
		return r;
	return error_set(ret_error, -EINVAL, "%s", strncmp(node->answer, "error: ", 7) ? node->answer : node->answer + 7);
}

int topology_reset(struct topology *topology, size_t i, struct error *ret_error)
{
	char text[512];
	snprintf(text, sizeof(text), LINK_CLEAR " %s", topology->nodes[i].row->link);
	return topology_set(topology, i, text, ret_error);
}

int topology_counts(struct topology *topology, size_t i, const char **ret_json, struct error *ret_error)
{
	int r = relay_ask(&topology->nodes[i], "counts", ret_error);
	if (!r)
		*ret_json = topology->nodes[i].answer;
	return r;
}

int topology_ended(struct topology *topology, pid_t pid)
{
	for (size_t i = 0; i < topology->n; i++)
		if (topology->nodes[i].relay == pid) {
			topology->nodes[i].relay = 0;
			return (int)i;
		}
	return -ENOENT;
}

/* ---- all of it ---- */

static int build(struct topology *topology, const struct host_file *files, size_t n_files, struct error *error)
{
	int r = host_open("router", files, n_files, &topology->router, error);
	for (size_t i = 0; !r && i < topology->n; i++) {
		struct node *node = &topology->nodes[i];
		r = host_open(node->row->name, files, n_files, &node->host, error);
		if (!r)
			r = host_open("relay", NULL, 0, &node->between, error);
		if (!r)
			r = host_run(node->between, between_configure, NULL, error);
		if (!r)
			r = host_run(node->host, host_configure, topology, error);
	}
	if (!r)
		r = host_run(topology->router, router_configure, topology, error);
	for (size_t i = 0; !r && i < topology->n; i++)
		r = relay_start(&topology->nodes[i], error);
	for (size_t i = 0; !r && i < topology->n; i++) {
		r = relay_answer(&topology->nodes[i], error);
		if (!r && strcmp(topology->nodes[i].answer, "ready"))
			r = error_set(error, -EPROTO, "the link of %s says `%.64s`", topology->nodes[i].row->name,
				      topology->nodes[i].answer);
	}
	return r;
}

int topology_new(const struct topology_host *hosts, size_t n_hosts, const struct host_file *files, size_t n_files,
		 struct topology **ret_topology, struct error *ret_error)
{
	struct topology *topology = n_hosts <= TOPOLOGY_HOSTS_MAX ? calloc(1, sizeof(*topology)) : NULL;
	if (!topology)
		return error_set(ret_error, -ENOMEM, "out of memory");
	topology->n = n_hosts;
	for (size_t i = 0; i < n_hosts; i++)
		topology->nodes[i] = (struct node){ .row = &hosts[i], .input = -1, .output = -1 };
	int r = build(topology, files, n_files, ret_error);
	if (r < 0) {
		topology_free(topology);
		return r;
	}
	*ret_topology = topology;
	return 0;
}

void topology_free(struct topology *topology)
{
	if (!topology)
		return;
	for (size_t i = 0; i < topology->n; i++) {
		struct node *node = &topology->nodes[i];
		if (node->relay) {
			kill(node->relay, SIGKILL);
			waitpid(node->relay, NULL, 0);
		}
		if (node->input >= 0)
			close(node->input);
		if (node->output >= 0)
			close(node->output);
		host_close(node->host);
		host_close(node->between);
	}
	host_close(topology->router);
	free(topology);
}
