/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What agents and server of the lab are told. Both know every host by its name; each
 * agent probes all others: by STAMP where there is an agent that reflects, else by ICMP. The
 * clock is one for all hosts, so one-way delays are exact.
 */
#include <errno.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "cli/lab.h"
#include "lib/buffer.h"

#define RETENTION "6h" /* it is in memory */

static int file_of(struct buffer *text)
{
	int fd = buffer_ok(text) ? memfd_create("netsonde-lab.yaml", MFD_CLOEXEC) : -1, r = fd;
	if (fd < 0)
		r = buffer_ok(text) ? -errno : -ENOMEM;
	else if (write(fd, text->data, text->len) != (ssize_t)text->len)
		r = -EIO;
	if (r < 0 && fd >= 0)
		close(fd);
	buffer_done(text);
	return r;
}

static bool has_agent(const struct lab *lab, size_t host)
{
	for (size_t i = 0; i < lab->n_agents; i++)
		if (lab->agents[i].host == host)
			return true;
	return false;
}

static void write_targets(const struct lab *lab, size_t self, struct buffer *out)
{
	char address[ADDRESS_TEXT_MAX];
	buffer_puts(out, "  targets:\n");
	for (size_t i = 0; i < scenario_n_hosts; i++) {
		const char *name = scenario_hosts[i].name;
		if (i == self)
			continue;
		buffer_printf(out, "    - {name: %s, address: %s, protocol: %s}\n", name, topology_address(i, AF_INET, address),
			      has_agent(lab, i) ? "stamp" : "icmp");
	}
}

int lab_config_agent(const struct lab *lab, const struct lab_agent *agent)
{
	char v4[ADDRESS_TEXT_MAX], v6[ADDRESS_TEXT_MAX];
	struct buffer out = BUFFER_INIT;
	buffer_puts(&out, "networks:\n  lab: [127.0.0.1]\n"); /* who asks for the metrics */
	for (size_t i = 0; i < scenario_n_hosts; i++)
		buffer_printf(&out, "  %s: [\"%s\", \"%s\"]\n", scenario_hosts[i].name, topology_address(i, AF_INET, v4),
			      topology_address(i, AF_INET6, v6));
	buffer_puts(&out, "collect: {scope: namespace, dns: on, udp: on}\nprobe:\n  defaults: {interval: 200ms, timeout: 1s}\n  passive: off\n"
			  "  reflect: [eth0]\n  clock_error: 1us\n");
	write_targets(lab, agent->host, &out);
	return file_of(&out);
}

int lab_config_server(const struct lab *lab)
{
	struct buffer out = BUFFER_INIT;
	buffer_puts(&out, "server:\n  store: {retention: {raw: " RETENTION "}}\n  scrape:\n    targets:\n");
	for (size_t i = 0; i < lab->n_agents; i++)
		buffer_printf(&out, "      - {name: %s, url: \"http://127.0.0.1:%u/metrics\"}\n",
			      scenario_hosts[lab->agents[i].host].name, forward_port(lab->agents[i].forward));
	return file_of(&out);
}
