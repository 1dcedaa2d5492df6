/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/netdev.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/probe/rtnl.h"

#define PARENT_DEVICE 56 /* IFLA_PARENT_DEV_NAME, since 5.14; not in every header */
#define FEATURES_MAX 256 /* of ethtool; today 64 */
#define MTU_USUAL 1500

/* A string that fits, with its end; else "?": longer than any that means something here. */
static void copy_text(char *to, size_t size, const uint8_t *value, size_t len)
{
	size_t n = strnlen((const char *)value, len);

	if (n < size)
		snprintf(to, size, "%.*s", (int)n, (const char *)value);
	else
		strcpy(to, "?");
}

static const char *xdp_text(uint8_t attached)
{
	switch (attached) {
	case XDP_ATTACHED_NONE:
		return NULL;
	case XDP_ATTACHED_DRV:
		return "native";
	case XDP_ATTACHED_SKB:
		return "generic";
	case XDP_ATTACHED_HW:
		return "offloaded";
	default:
		return "several";
	}
}

static void read_xdp(const uint8_t *data, size_t len, struct netdev *device)
{
	const uint8_t *value = rtnl_find(data, len, IFLA_XDP_ATTACHED, 1, NULL);

	device->xdp = value ? xdp_text(*value) : NULL;
	device->xdp_program = rtnl_find_u32(data, len, IFLA_XDP_PROG_ID);
	if (!device->xdp_program) /* of several */
		device->xdp_program = rtnl_find_u32(data, len, IFLA_XDP_DRV_PROG_ID);
}

static int read_link(const struct rtnl_answer *answer, struct netdev *ret_device)
{
	const uint8_t *data = answer->attributes, *value, *kind;
	const size_t len = answer->attributes_len;
	struct netdev device = { 0 };
	struct ifinfomsg info;
	size_t value_len, kind_len;

	memcpy(&info, answer->head, sizeof(info));
	value = rtnl_find(data, len, IFLA_IFNAME, 1, &value_len);
	if (info.ifi_index <= 0 || !value)
		return -EBADMSG;
	copy_text(device.name, sizeof(device.name), value, value_len);
	device.ifindex = (uint32_t)info.ifi_index;
	device.link_type = info.ifi_type;
	device.up = info.ifi_flags & IFF_UP;
	value = rtnl_find(data, len, IFLA_ADDRESS, sizeof(device.mac), &value_len);
	if (value && value_len == sizeof(device.mac))
		memcpy(device.mac, value, sizeof(device.mac));
	device.mtu = rtnl_find_u32(data, len, IFLA_MTU);
	device.receive_queues = rtnl_find_u32(data, len, IFLA_NUM_RX_QUEUES);
	value = rtnl_find(data, len, IFLA_LINKINFO, 0, &value_len);
	kind = value ? rtnl_find(value, value_len, IFLA_INFO_KIND, 1, &kind_len) : NULL;
	if (kind)
		copy_text(device.kind, sizeof(device.kind), kind, kind_len);
	device.hardware = !kind && rtnl_find(data, len, PARENT_DEVICE, 1, NULL);
	value = rtnl_find(data, len, IFLA_XDP, 0, &value_len);
	if (value)
		read_xdp(value, value_len, &device);
	*ret_device = device;
	return 0;
}

static int ioctl_ethtool(int fd, const char *name, void *command)
{
	struct ifreq request = { .ifr_data = command };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return ioctl(fd, SIOCETHTOOL, &request) ? -errno : 0;
}

/* Room for what follows these heads. */
union set_info { struct ethtool_sset_info info; uint8_t bytes[sizeof(struct ethtool_sset_info) + sizeof(uint32_t)]; };
union strings {
	struct ethtool_gstrings head;
	uint8_t bytes[sizeof(struct ethtool_gstrings) + FEATURES_MAX * ETH_GSTRING_LEN];
};
union features {
	struct ethtool_gfeatures head;
	uint8_t bytes[sizeof(struct ethtool_gfeatures) + FEATURES_MAX / 32 * sizeof(struct ethtool_get_features_block)];
};

static void take_feature(struct netdev *device, const char *name)
{
	if (!strncmp(name, "rx-gro", ETH_GSTRING_LEN))
		device->gro = true;
	else if (!strncmp(name, "rx-lro", ETH_GSTRING_LEN))
		device->joins = "rx-lro";
	else if (!strncmp(name, "rx-gro-hw", ETH_GSTRING_LEN))
		device->joins = "rx-gro-hw";
}

/* Which of the features that join packets are on. Their numbers change between kernels, their names do not. */
static void read_features(int fd, struct netdev *device)
{
	union set_info set = { .info = { .cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1u << ETH_SS_FEATURES } };
	union features features = { .head = { .cmd = ETHTOOL_GFEATURES } };
	union strings strings;

	if (ioctl_ethtool(fd, device->name, &set) || !set.info.sset_mask || set.info.data[0] > FEATURES_MAX)
		return;
	features.head.size = (set.info.data[0] + 31) / 32;
	memset(&strings, 0, sizeof(strings));
	strings.head.cmd = ETHTOOL_GSTRINGS;
	strings.head.string_set = ETH_SS_FEATURES;
	strings.head.len = set.info.data[0];
	if (ioctl_ethtool(fd, device->name, &strings) || ioctl_ethtool(fd, device->name, &features))
		return;
	for (uint32_t i = 0; i < set.info.data[0]; i++)
		if (features.head.features[i / 32].active & 1u << i % 32)
			take_feature(device, (const char *)strings.head.data + i * ETH_GSTRING_LEN);
}

int netdev_read(const char *name, uint32_t ifindex, struct netdev *ret_device)
{
	const uint32_t mask = RTEXT_FILTER_SKIP_STATS;
	struct rtnl_request q = RTNL_LINK_INIT(RTM_GETLINK);
	struct rtnl_answer answer;
	struct netdev device;
	int fd, r;

	if (name ? strlen(name) >= IF_NAMESIZE : !ifindex)
		return -ENODEV;
	rtnl_put(&q, IFLA_EXT_MASK, &mask, sizeof(mask));
	if (name)
		rtnl_put(&q, IFLA_IFNAME, name, (uint16_t)(strlen(name) + 1));
	else
		q.link.ifi_index = (int)ifindex;
	r = rtnl_open(0, 0, &fd);
	if (r < 0)
		return r;
	r = rtnl_ask(fd, &q, RTM_NEWLINK, sizeof(struct ifinfomsg), &answer);
	if (!r)
		r = read_link(&answer, &device);
	if (!r) {
		read_features(fd, &device);
		*ret_device = device;
	}
	close(fd);
	return r;
}

bool netdev_ethernet(const struct netdev *device, bool *ret_known)
{
	*ret_known = true;
	switch (device->link_type) {
	case ARPHRD_ETHER:
	case ARPHRD_LOOPBACK:
		return true;
	case ARPHRD_NONE:
	case ARPHRD_PPP:
	case ARPHRD_RAWIP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case ARPHRD_IP6GRE:
		return false;
	default:
		*ret_known = false;
		return false;
	}
}

/* Its name takes CAP_BPF and is often all that tells an administrator whose program it is. */
static void program_text(uint32_t id, char *ret_text, size_t size)
{
	int fd = id ? bpf_prog_get_fd_by_id(id) : -1;
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.name[0])
		snprintf(ret_text, size, "%s, id %u", info.name, id);
	else if (id)
		snprintf(ret_text, size, "id %u", id);
	else
		snprintf(ret_text, size, "id not known");
	if (fd >= 0)
		close(fd);
}

bool netdev_xdp_obstacle(const struct netdev *device, bool generic, bool asked, char *ret_reason, size_t size)
{
	char program[64];
	bool known;

	if (!netdev_ethernet(device, &known)) {
		snprintf(ret_reason, size, "XDP: no Ethernet frames here (link type %u)", device->link_type);
		return true;
	}
	if (device->xdp) {
		program_text(device->xdp_program, program, sizeof(program));
		snprintf(ret_reason, size, "XDP: another program is attached (%s, %s%s)", device->xdp, program,
			 strstr(program, "xdp_dispatcher") ? ": libxdp's dispatcher, which we do not join" : "");
		return true;
	}
	if (asked)
		return false;
	if (!device->hardware) {
		snprintf(ret_reason, size, "XDP: only when asked for on a device in software (%s)",
			 device->kind[0] ? device->kind : device->name);
		return true;
	}
	if (device->joins) {
		snprintf(ret_reason, size, "XDP: would turn off %s, which joins received packets", device->joins);
		return true;
	}
	if (generic && device->gro) {
		snprintf(ret_reason, size, "generic XDP: only when asked for while rx-gro is on: it would copy every packet");
		return true;
	}
	return false;
}

void netdev_xdp_refusal(const struct netdev *device, bool generic, int error, char *ret_reason, size_t size)
{
	const char *mode = generic ? "generic XDP" : "native XDP";

	switch (-error) {
	case EOPNOTSUPP:
		snprintf(ret_reason, size, "%s: not known to the driver, or not with its present settings (MTU %u)", mode,
			 device->mtu);
		break;
	case EBUSY:
	case EEXIST:
		snprintf(ret_reason, size, "%s: another program is attached", mode);
		break;
	case EINVAL:
	case ERANGE:
	case EMSGSIZE:
	case EFBIG:
		snprintf(ret_reason, size, "%s: refused by the driver (%s); probably its MTU of %u is too large%s", mode,
			 strerror(-error), device->mtu, device->mtu <= MTU_USUAL ? ", or it has too few queues" : "");
		break;
	case ENOMEM:
	case ENOSPC:
		snprintf(ret_reason, size, "%s: the driver has not enough queues or memory (%s; %u receive queues)", mode,
			 strerror(-error), device->receive_queues);
		break;
	default:
		snprintf(ret_reason, size, "%s: %s", mode, strerror(-error));
	}
}
