/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the schema about probes whose values depend on each other. Only for settings*.c. */
#pragma once
#include "lib/config.h"

extern const struct config_row settings_probe_target_rows[];

int settings_probe_target_finish(void *target, void *record, const char **ret_key, struct error *ret_error);
int settings_probe_plan_finish(void *target, void *record, const char **ret_key, struct error *ret_error);
int settings_probe_reflector_finish(void *target, void *record, const char **ret_key, struct error *ret_error);
int settings_probe_finish(void *target, void *record, const char **ret_key, struct error *ret_error);

/* What the kernel accepts as the name of an interface (dev_valid_name). */
int settings_interface_check(const char *text, struct error *ret_error);
/* A file that is found whatever the working directory is. */
int settings_path_check(const char *text, struct error *ret_error);
