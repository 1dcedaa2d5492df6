/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_attach.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/probe/probe_hardware.h"
#include "agent/probe/probe_hook.h"

enum way { WAY_END, WAY_XDP, WAY_XDP_GENERIC, WAY_TCX, WAY_SOCKET };

static const struct {
	const char *name;
	enum probe_clock clock;
	enum probe_hook receive_hook;
	bool reflects;
} ways[] = {
	[WAY_XDP] = { "xdp", PROBE_CLOCK_XDP, PROBE_HOOK_XDP, true },
	[WAY_XDP_GENERIC] = { "xdp_generic", PROBE_CLOCK_XDP_GENERIC, PROBE_HOOK_XDP_GENERIC, true },
	[WAY_TCX] = { "tcx", PROBE_CLOCK_TC, PROBE_HOOK_TC_RECEIVE, true },
	[WAY_SOCKET] = { "packet_socket", PROBE_CLOCK_TC, PROBE_HOOK_SOCKET, false },
};

static void close_link(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The reason stays. */
static void detach_hooks(struct probe_attachment *a, struct probe_program *program, struct probe_spares *spares)
{
	struct probe_device *device = &a->device;

	close_link(&a->receive);
	close_link(&a->send);
	if (a->socket >= 0 && spares->n < PROBE_DEVICES_MAX && !probe_hook_socket_park(a->socket))
		spares->fds[spares->n++] = a->socket;
	else
		close_link(&a->socket);
	a->socket = -1;
	if (device->slot != PROBE_SLOT_NONE)
		probe_program_device_remove(program, device->slot);
	device->slot = PROBE_SLOT_NONE;
	device->receive = PROBE_CLOCK_KERNEL;
	device->send = false;
	device->receive_mode = device->send_mode = "off";
}

/* Best first. What was asked for is not exchanged for something else, but tc: a packet socket stands a few lines
 * beside it. */
static const struct { enum way receive[5], send[3]; } orders[] = {
	[PROBE_ATTACH_AUTO] = { { WAY_XDP, WAY_XDP_GENERIC, WAY_TCX, WAY_SOCKET }, { WAY_TCX, WAY_SOCKET } },
	[PROBE_ATTACH_XDP] = { { WAY_XDP }, { WAY_TCX, WAY_SOCKET } },
	[PROBE_ATTACH_XDP_GENERIC] = { { WAY_XDP_GENERIC }, { WAY_TCX, WAY_SOCKET } },
	[PROBE_ATTACH_TC] = { { WAY_TCX, WAY_SOCKET }, { WAY_TCX, WAY_SOCKET } },
	[PROBE_ATTACH_SOCKET] = { { WAY_SOCKET }, { WAY_SOCKET } },
	[PROBE_ATTACH_OFF] = { { WAY_END }, { WAY_END } },
};

/* Adds a part to the reason, once. */
static void note(struct probe_device *device, const char *text)
{
	size_t len = strlen(device->reason);

	if (!strstr(device->reason, text))
		snprintf(device->reason + len, sizeof(device->reason) - len, "%s%s", len ? "; " : "", text);
}

static void note_refusal(struct probe_device *device, const char *way, int error)
{
	char text[128];

	if (error == -EINVAL)
		snprintf(text, sizeof(text), "%s: not in this kernel (it needs 6.6)", way);
	else
		snprintf(text, sizeof(text), "%s: %s", way, strerror(-error));
	note(device, text);
}

static void note_unloaded(struct probe_device *device, enum way way)
{
	char text[64];

	snprintf(text, sizeof(text), "%s: the kernel did not take its program", ways[way].name);
	note(device, text);
}

static int bind_socket(struct probe_attachment *a, int program_fd, struct probe_spares *spares)
{
	int r;

	if (a->socket >= 0)
		return 0; /* it sees both directions */
	a->socket = spares->n ? spares->fds[--spares->n] : probe_hook_socket();
	if (a->socket < 0) {
		r = a->socket;
		a->socket = -1;
		return r;
	}
	return probe_hook_socket_bind(a->socket, program_fd, a->device.ifindex);
}

/* Whose card stamps what it receives. The usual program is as good but for that. */
static bool try_hardware(struct probe_attachment *a, const struct probe_spares *spares)
{
	int fd = probe_hardware_fd(spares->hardware, a->device.ifindex), link;

	if (fd < 0)
		return false;
	link = probe_hook_xdp(fd, a->device.ifindex, false);
	if (link < 0) {
		note_refusal(&a->device, "XDP with hardware timestamps", link == -EINVAL ? -EIO : link);
		return false;
	}
	a->receive = link;
	note(&a->device, "hardware timestamps, while the card's clock agrees with the system's");
	return true;
}

static bool try_xdp(struct probe_attachment *a, int fd, const struct probe_spares *spares, const struct netdev *netdev,
		    bool generic, bool asked)
{
	char text[192];

	if (netdev_xdp_obstacle(netdev, generic, asked, text, sizeof(text))) {
		note(&a->device, text);
		return false;
	}
	if (!generic && try_hardware(a, spares))
		return true;
	a->receive = probe_hook_xdp(fd, a->device.ifindex, generic);
	if (a->receive >= 0)
		return true;
	netdev_xdp_refusal(netdev, generic, a->receive, text, sizeof(text));
	note(&a->device, text);
	a->receive = -1;
	return false;
}

static bool try_tcx(struct probe_attachment *a, int fd, bool send)
{
	int r = probe_hook_tcx(fd, a->device.ifindex, send);

	if (r < 0)
		note_refusal(&a->device, "tcx", r);
	else
		*(send ? &a->send : &a->receive) = r;
	return r >= 0;
}

static bool try_socket(struct probe_attachment *a, int fd, struct probe_spares *spares)
{
	int r = bind_socket(a, fd, spares);

	if (r < 0)
		note_refusal(&a->device, "packet socket", r == -EINVAL ? -EIO : r);
	return r >= 0;
}

static void attach_receive(struct probe_attachment *a, const struct probe_program *program, enum probe_attach attach,
			   const struct netdev *netdev, struct probe_spares *spares)
{
	struct probe_device *device = &a->device;

	for (const enum way *way = orders[attach].receive; *way != WAY_END; way++) {
		int fd = probe_program_fd(program, ways[*way].receive_hook);
		bool is_xdp = *way == WAY_XDP || *way == WAY_XDP_GENERIC;

		if (device->reflect && !ways[*way].reflects)
			continue;
		if (fd < 0) {
			note_unloaded(device, *way);
			continue;
		}
		if (is_xdp ? try_xdp(a, fd, spares, netdev, *way == WAY_XDP_GENERIC, attach != PROBE_ATTACH_AUTO)
			   : *way == WAY_TCX ? try_tcx(a, fd, false) : try_socket(a, fd, spares)) {
			device->receive = ways[*way].clock;
			device->receive_mode = ways[*way].name;
			return;
		}
	}
}

static void attach_send(struct probe_attachment *a, const struct probe_program *program, enum probe_attach attach,
			struct probe_spares *spares)
{
	for (const enum way *way = orders[attach].send; *way != WAY_END; way++) {
		int fd = probe_program_fd(program, *way == WAY_TCX ? PROBE_HOOK_TC_SEND : PROBE_HOOK_SOCKET_SEND);

		if (fd < 0) {
			note_unloaded(&a->device, *way);
			continue;
		}
		if (*way == WAY_TCX ? try_tcx(a, fd, true) : try_socket(a, fd, spares)) {
			a->device.send = true;
			a->device.send_mode = ways[*way].name;
			return;
		}
	}
}

/* What somebody who asked for XDP should know. */
static void note_costs(struct probe_device *device, const struct netdev *netdev)
{
	char text[64];

	if (device->receive == PROBE_CLOCK_XDP && device->reflect && !strcmp(netdev->kind, "veth"))
		note(device, "XDP: reflected packets leave a veth only while its peer has an XDP program");
	if ((device->receive == PROBE_CLOCK_XDP || device->receive == PROBE_CLOCK_XDP_GENERIC) && netdev->joins) {
		snprintf(text, sizeof(text), "XDP: turned off %s", netdev->joins);
		note(device, text);
	}
}

static int attach_to(struct probe_attachment *a, struct probe_program *program, enum probe_attach attach,
		     struct probe_spares *spares, struct error *ret_error)
{
	struct probe_device *device = &a->device;
	struct netdev netdev;
	char text[64];
	bool known;
	int r = netdev_read(NULL, device->ifindex, &netdev);

	if (r < 0)
		return error_set_errno(ret_error, r, "cannot read the state of interface %s", device->name);
	a->netdev = netdev;
	netdev_ethernet(&netdev, &known);
	if (!known) {
		snprintf(text, sizeof(text), "neither Ethernet nor IP (link type %u)", netdev.link_type);
		note(device, text);
	} else if (probe_program_device_add(program, device->ifindex, device->reflect, &device->slot) < 0) {
		note(device, "the probe programs have no room for it");
	} else {
		attach_receive(a, program, attach, &netdev, spares);
		attach_send(a, program, attach, spares);
		note_costs(device, &netdev);
	}
	if (!device->reflect || device->receive != PROBE_CLOCK_KERNEL)
		return 0;
	return error_set(ret_error, -EOPNOTSUPP, "interface %s cannot reflect probes: %s", device->name,
			 device->reason[0] ? device->reason : "no hook there can send packets back");
}

int probe_attach(struct probe_attachment *a, struct probe_program *program, enum probe_attach attach,
		 struct probe_spares *spares, struct error *ret_error)
{
	int r = 0;

	probe_detach(a, program, spares);
	if (!program)
		note(&a->device, "the probe programs are not loaded");
	else if (attach == PROBE_ATTACH_OFF)
		note(&a->device, "off by choice");
	if (program && attach != PROBE_ATTACH_OFF)
		r = attach_to(a, program, attach, spares, ret_error);
	else if (a->device.reflect)
		r = error_set(ret_error, -EOPNOTSUPP, "interface %s cannot reflect probes: %s", a->device.name,
			      a->device.reason);
	/* A place among the devices is only for what has a hook. */
	if (r < 0 || (a->device.receive == PROBE_CLOCK_KERNEL && !a->device.send))
		detach_hooks(a, program, spares);
	return r;
}

void probe_detach(struct probe_attachment *a, struct probe_program *program, struct probe_spares *spares)
{
	detach_hooks(a, program, spares);
	a->device.reason[0] = '\0';
}

bool probe_attach_alive(const struct probe_attachment *a)
{
	const uint32_t ifindex = a->device.ifindex;

	return (a->receive < 0 || probe_hook_alive(a->receive, ifindex)) &&
	       (a->send < 0 || probe_hook_alive(a->send, ifindex)) &&
	       (a->socket < 0 || probe_hook_socket_alive(a->socket, ifindex));
}
