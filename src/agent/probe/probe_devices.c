/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of interfaces that have probes, and what happens to them (rtnetlink's notifications, in their order). An
 * entry begins with somebody's wish and stays: when its interface goes, it waits for one of the same name.
 */
#include "agent/probe/probe_devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/netlink.h"
#include "agent/probe/netdev.h"
#include "agent/probe/probe_attach.h"
#include "agent/probe/probe_hardware.h"
#include "agent/probe/probe_hook.h"
#include "agent/probe/probe_lock.h"
#include "lib/log.h"

#define CHANGES_QUEUE 262144 /* bytes: some hundred changes between two ticks; more cost a question for all links */
#define SPARES_WITH_TCX 2 /* tcx needs no privileges later; in case something (an LSM) refuses it all the same */

struct entry {
	struct probe_attachment at;
	uint64_t gone;  /* which departure it was: the smallest was the first */
	bool changed;   /* since the last tick */
	bool detached;  /* by somebody else: he will have meant it, so not again */
	bool stirred;   /* something changed about the interface, which may be what stood in the way */
};

struct probe_devices {
	struct probe_program *program;
	enum probe_attach attach;
	struct netlink *netlink;
	struct probe_spares spares;
	struct entry entries[PROBE_DEVICES_MAX];
	size_t n, look; /* look: whose links are looked at next */
	uint64_t departures;
	bool ask_all;   /* changes were lost */
	int lock;
};

static size_t spares_wanted(const struct probe_devices *d)
{
	if (!d->program || d->attach == PROBE_ATTACH_OFF)
		return 0;
	if (d->attach == PROBE_ATTACH_SOCKET)
		return PROBE_DEVICES_MAX;
	return probe_hook_has_tcx(probe_program_fd(d->program, PROBE_HOOK_TC_RECEIVE)) ? SPARES_WITH_TCX : PROBE_DEVICES_MAX;
}

/* Those that cannot be had will be missing, and the reason said, when they are needed. */
static void open_spares(struct probe_devices *d)
{
	for (size_t wanted = spares_wanted(d); d->spares.n < wanted; d->spares.n++) {
		d->spares.fds[d->spares.n] = probe_hook_socket();
		if (d->spares.fds[d->spares.n] < 0)
			return;
	}
}

int probe_devices_new(struct probe_program *program, enum probe_attach attach, struct probe_devices **ret_devices,
		      struct error *ret_error)
{
	struct probe_devices *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->program = program;
	d->attach = attach;
	d->lock = -1;
	r = netlink_open(CHANGES_QUEUE, &d->netlink);
	if (r < 0) {
		free(d);
		return error_set_errno(ret_error, r, "cannot open netlink sockets for the interfaces of the probes");
	}
	open_spares(d);
	if (attach == PROBE_ATTACH_AUTO || attach == PROBE_ATTACH_XDP)
		d->spares.hardware = probe_hardware_open(program, attach == PROBE_ATTACH_XDP);
	*ret_devices = d;
	return 0;
}

void probe_devices_free(struct probe_devices *devices)
{
	if (!devices)
		return;
	for (size_t i = 0; i < devices->n; i++)
		probe_detach(&devices->entries[i].at, devices->program, &devices->spares);
	while (devices->spares.n)
		close(devices->spares.fds[--devices->spares.n]);
	probe_hardware_close(devices->spares.hardware);
	if (devices->lock >= 0)
		close(devices->lock);
	netlink_close(devices->netlink);
	free(devices);
}

static struct entry *find_index(struct probe_devices *d, uint32_t ifindex)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->entries[i].at.device.ifindex == ifindex)
			return &d->entries[i];
	return NULL;
}

static struct entry *find_gone(struct probe_devices *d, const char *name)
{
	for (size_t i = 0; i < d->n; i++)
		if (!d->entries[i].at.device.ifindex && !strcmp(d->entries[i].at.device.name, name))
			return &d->entries[i];
	return NULL;
}

/* Room for another: a new entry, or that of whom nothing was heard for longest. */
static struct entry *find_room(struct probe_devices *d)
{
	struct entry *oldest = NULL;

	if (d->n < PROBE_DEVICES_MAX)
		return &d->entries[d->n++];
	for (size_t i = 0; i < d->n; i++) {
		struct entry *e = &d->entries[i];

		if (!e->at.device.ifindex && !e->at.device.reflect && (!oldest || e->gone < oldest->gone))
			oldest = e;
	}
	return oldest;
}

static void log_device(const char *message, const struct probe_device *device)
{
	log_debug(message, "device", device->name, "receive", device->receive_mode, "send", device->send_mode, "reason",
		  device->reason, NULL);
}

/* For an interface that came back, or that may now be attached to: nobody is there to take the error. */
static void attach_again(struct probe_devices *d, struct entry *e)
{
	const struct probe_device before = e->at.device;
	struct error error = { "" };
	int r = probe_attach(&e->at, d->program, d->attach, &d->spares, &error);
	const struct probe_device *now = &e->at.device;

	if (r == -ENODEV)
		return; /* its notification is on the way */
	e->changed |= before.receive != now->receive || before.send != now->send || strcmp(before.reason, now->reason) != 0;
	if (r < 0 && strcmp(before.reason, now->reason) != 0)
		log_warn("an interface came back and its probes are not as before", "device", now->name, "reason",
			 error.text, NULL);
	else if (!r)
		log_device("probes are attached again", now);
}

static void appear(struct probe_devices *d, struct entry *e, uint32_t ifindex)
{
	e->at.device.ifindex = ifindex;
	e->detached = false;
	e->changed = true;
	attach_again(d, e);
}

static void vanish(struct probe_devices *d, struct entry *e)
{
	probe_detach(&e->at, d->program, &d->spares);
	e->at.device.ifindex = 0;
	e->gone = ++d->departures;
	e->changed = true;
	log_device("an interface with probes is gone", &e->at.device);
}

static void on_link(struct probe_devices *d, uint32_t ifindex, const char *name)
{
	struct entry *e = find_index(d, ifindex);

	if (!e) {
		e = find_gone(d, name);
		if (e)
			appear(d, e, ifindex);
		return;
	}
	if (strcmp(e->at.device.name, name) != 0) {
		strcpy(e->at.device.name, name);
		e->changed = true;
	}
	e->stirred = true;
}

static void on_change(const struct netlink_message *m, void *userdata)
{
	struct probe_devices *d = userdata;
	struct entry *e;

	if (m->type == NETLINK_LINK) {
		on_link(d, (uint32_t)m->link.index, m->link.name);
		return;
	}
	e = find_index(d, (uint32_t)m->link.index);
	if (e)
		vanish(d, e);
}

/* What was in the way of one without a hook (another program's XDP, its MTU) may be gone; and the reflector answers only what is
 * sent to the Ethernet address that it knows. */
static bool needs_another_look(const struct probe_devices *d, const struct entry *e)
{
	const struct probe_device *device = &e->at.device;
	const struct netdev *before = &e->at.netdev;
	const bool unhooked = device->receive == PROBE_CLOCK_KERNEL;
	struct netdev now;

	if (!e->stirred || !device->ifindex || e->detached || !d->program || d->attach == PROBE_ATTACH_OFF ||
	    (!unhooked && !device->reflect) || netdev_read(NULL, device->ifindex, &now) < 0)
		return false;
	return (unhooked && (!now.xdp != !before->xdp || now.mtu != before->mtu || now.up != before->up)) ||
	       (device->reflect && memcmp(now.mac, before->mac, sizeof(now.mac)) != 0);
}

/* Once per call, however much happened. */
static void look_again(struct probe_devices *d)
{
	for (size_t i = 0; i < d->n; i++) {
		if (needs_another_look(d, &d->entries[i]))
			attach_again(d, &d->entries[i]);
		d->entries[i].stirred = false;
	}
}

static bool listed(const struct netlink_link *links, size_t n, uint32_t ifindex)
{
	for (size_t i = 0; i < n; i++)
		if ((uint32_t)links[i].index == ifindex)
			return true;
	return false;
}

/* After lost changes: who is there now. */
static int compare_all(struct probe_devices *d)
{
	const struct netlink_link *links;
	size_t n;
	int r = netlink_links(d->netlink, &links, &n);

	if (r)
		return r;
	for (size_t i = 0; i < d->n; i++) {
		struct entry *e = &d->entries[i];

		/* An index can be used again. */
		if (e->at.device.ifindex && (!listed(links, n, e->at.device.ifindex) || !probe_attach_alive(&e->at)))
			vanish(d, e);
	}
	for (size_t i = 0; i < n; i++)
		on_link(d, (uint32_t)links[i].index, links[i].name);
	return 0;
}

static void read_changes(struct probe_devices *d)
{
	int r = netlink_changes(d->netlink, on_change, d);

	if (r == NETLINK_E_LOST || (r < 0 && r != -EINTR))
		d->ask_all = true;
	if (d->ask_all && !compare_all(d))
		d->ask_all = false;
}

static int set_reflect(struct probe_devices *d, struct entry *e, bool reflect, struct error *ret_error)
{
	int r;

	e->at.device.reflect = reflect;
	r = probe_attach(&e->at, d->program, d->attach, &d->spares, ret_error);
	e->changed = true;
	if (!r || !reflect)
		return r;
	/* As it was before. */
	e->at.device.reflect = false;
	probe_attach(&e->at, d->program, d->attach, &d->spares, NULL);
	return r;
}

/* One that shall reflect and is not there yet: it begins as one that went. */
static void expect(struct probe_devices *d, const char *name)
{
	struct entry *e = strlen(name) >= IF_NAMESIZE || find_gone(d, name) ? NULL : find_room(d);

	if (!e)
		return;
	*e = (struct entry){ .at = PROBE_ATTACHMENT_INIT };
	strcpy(e->at.device.name, name);
	e->at.device.reflect = true;
	e->gone = ++d->departures;
}

static int add(struct probe_devices *d, const struct netdev *netdev, bool reflect, struct entry **ret_entry,
	       struct error *ret_error)
{
	const size_t before = d->n;
	struct entry *e = find_gone(d, netdev->name);
	int r;

	if (!e)
		e = find_room(d);
	if (!e)
		return error_set(ret_error, -ENOSPC, "no probes on interface %s: there are %d others already", netdev->name,
				 PROBE_DEVICES_MAX);
	*e = (struct entry){ .at = PROBE_ATTACHMENT_INIT, .changed = true };
	strcpy(e->at.device.name, netdev->name);
	e->at.device.ifindex = netdev->ifindex;
	e->at.device.reflect = reflect;
	r = probe_attach(&e->at, d->program, d->attach, &d->spares, ret_error);
	if (r < 0) {
		e->at.device.reflect = false;
		e->at.device.ifindex = 0;
		d->n = before;
		return r;
	}
	log_device("probes are attached", &e->at.device);
	*ret_entry = e;
	return 0;
}

static int use(struct probe_devices *d, const char *name, uint32_t ifindex, int reflect,
	       const struct probe_device **ret_device, struct error *ret_error)
{
	struct entry *e = ifindex ? find_index(d, ifindex) : NULL;
	struct netdev netdev;
	int r = 0;

	if (!e) {
		r = netdev_read(name, ifindex, &netdev);
		if (r == -ENODEV && name && reflect > 0)
			expect(d, name);
		if (r == -ENODEV && name)
			return error_set(ret_error, r, "there is no interface %s", name);
		if (r == -ENODEV)
			return error_set(ret_error, r, "there is no interface with index %u", ifindex);
		if (r < 0)
			return error_set_errno(ret_error, r, "cannot read the state of an interface");
		e = find_index(d, netdev.ifindex);
	}
	if (!e) {
		read_changes(d); /* it may have come back since the last tick */
		e = find_index(d, netdev.ifindex);
	}
	if (!e)
		r = add(d, &netdev, reflect > 0, &e, ret_error);
	else if (reflect >= 0 && e->at.device.reflect != (bool)reflect)
		r = set_reflect(d, e, reflect, ret_error);
	if (!r && ret_device)
		*ret_device = &e->at.device;
	return r;
}

int probe_devices_use(struct probe_devices *devices, const char *name, bool reflect, const struct probe_device **ret_device,
		      struct error *ret_error)
{
	return use(devices, name, 0, reflect, ret_device, ret_error);
}

int probe_devices_use_index(struct probe_devices *devices, uint32_t ifindex, const struct probe_device **ret_device,
			    struct error *ret_error)
{
	return use(devices, NULL, ifindex, -1, ret_device, ret_error);
}

/* One entry per call: whether somebody took our links off, or (which no notification tells) his own. */
static void look_at_links(struct probe_devices *d)
{
	struct entry *e = d->n ? &d->entries[d->look++ % d->n] : NULL;
	struct netdev netdev;

	if (!e || !e->at.device.ifindex)
		return;
	if (probe_attach_alive(&e->at)) {
		e->stirred = true;
		return;
	}
	if (netdev_read(NULL, e->at.device.ifindex, &netdev) == -ENODEV)
		return; /* its notification is on the way */
	probe_detach(&e->at, d->program, &d->spares);
	strcpy(e->at.device.reason, "its hooks were detached by somebody else");
	e->detached = e->changed = true;
	log_warn("the hooks of an interface were detached by somebody else; its probes are timed by their sockets",
		 "device", e->at.device.name, NULL);
}

int probe_devices_tick(struct probe_devices *devices)
{
	int changed = 0;

	read_changes(devices);
	look_at_links(devices);
	look_again(devices);
	probe_hardware_tick(devices->spares.hardware);
	if (devices->lock >= 0)
		probe_lock_serve(devices->lock);
	for (size_t i = 0; i < devices->n; i++) {
		changed += devices->entries[i].changed;
		devices->entries[i].changed = false;
	}
	return changed;
}

size_t probe_devices_count(const struct probe_devices *devices)
{
	return devices->n;
}

const struct probe_device *probe_devices_at(const struct probe_devices *devices, size_t i)
{
	return &devices->entries[i].at.device;
}

const struct probe_hardware *probe_devices_hardware(const struct probe_devices *devices)
{
	return devices->spares.hardware;
}

int probe_devices_lock(struct probe_devices *devices, struct error *ret_error)
{
	struct error error = { "" };
	int r = probe_lock_take(&error);

	if (r >= 0) {
		devices->lock = r;
		return 0;
	}
	if (r == -EADDRINUSE) {
		log_warn("probing without a lock", "reason", error.text, NULL);
		return 0;
	}
	return error_set(ret_error, r, "%s", error.text);
}
