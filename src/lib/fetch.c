/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP client: libcurl's multi interface with its sockets and its timer in the
 * loop (curl_multi_socket_action). libcurl keeps the connections and reuses
 * them; one easy handle belongs to one job and goes with it.
 *
 * The time-out of a job is a timer of the loop and not CURLOPT_TIMEOUT, which
 * does not run while a job waits for its turn under the connection limit.
 *
 * Two rules of libcurl shape this file: no call into it from its own callbacks
 * (so results are delivered after curl_multi_socket_action has returned), and
 * the text of CURLMsg is gone once its handle is removed.
 */
#include "lib/fetch.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"
#include "lib/clock.h"

#define TIMEOUT_DEFAULT_NS (10 * NS_PER_SEC)
#define RESPONSE_MAX_DEFAULT ((size_t)64 * 1024 * 1024)
#define REDIRECTS_MAX 5L

struct fetch {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer; /* libcurl's */
	struct fetch_job *jobs;
	bool delivering;          /* a fetch_fn is on the stack */
	bool freed;               /* by that one */
};

struct fetch_job {
	struct fetch_job *prev, *next;
	struct fetch *fetch;
	CURL *easy;
	struct curl_slist *headers;
	struct loop_timer *timer;
	char *url;                /* as shown in messages: without user and password */
	struct buffer data;
	size_t response_max;
	bool too_large;
	bool delivering;
	uint64_t timeout_ns;
	mono_time started;
	fetch_fn fn;
	void *userdata;
	char curl_error[CURL_ERROR_SIZE];
};

static void job_free(struct fetch_job *job)
{
	struct fetch *fetch = job->fetch;

	if (job->prev)
		job->prev->next = job->next;
	else if (fetch->jobs == job)
		fetch->jobs = job->next;
	if (job->next)
		job->next->prev = job->prev;
	loop_timer_free(job->timer);
	if (job->easy) {
		curl_multi_remove_handle(fetch->multi, job->easy); /* harmless when it was never added */
		curl_easy_cleanup(job->easy);
	}
	curl_slist_free_all(job->headers);
	buffer_done(&job->data);
	curl_free(job->url);
	free(job);
}

/* Outcomes */

static const char *timeout_text(uint64_t ns, char buf[static 32])
{
	if (ns % NS_PER_SEC == 0)
		snprintf(buf, 32, "%llus", (unsigned long long)(ns / NS_PER_SEC));
	else if (ns >= NS_PER_MS)
		snprintf(buf, 32, "%llums", (unsigned long long)(ns / NS_PER_MS));
	else
		snprintf(buf, 32, "%lluus", (unsigned long long)(ns / NS_PER_US));
	return buf;
}

static int outcome_timeout(const struct fetch_job *job, struct error *ret_error)
{
	char text[32];

	timeout_text(job->timeout_ns, text);
	if (job->data.len)
		return error_set(ret_error, -ETIMEDOUT, "%s: the answer was not complete within %s (%zu bytes came)",
				 job->url, text, job->data.len);
	return error_set(ret_error, -ETIMEDOUT, "%s: no answer within %s", job->url, text);
}

static int outcome_not_connected(const struct fetch_job *job, struct error *ret_error)
{
	long os_errno = 0;

	curl_easy_getinfo(job->easy, CURLINFO_OS_ERRNO, &os_errno);
	switch (os_errno) {
	case ECONNREFUSED:
		return error_set(ret_error, -ECONNREFUSED, "%s: connection refused", job->url);
	case ENETUNREACH:
		return error_set(ret_error, -EHOSTUNREACH, "%s: no route to its network", job->url);
	case EHOSTUNREACH:
		return error_set(ret_error, -EHOSTUNREACH, "%s: no route to the host", job->url);
	case ETIMEDOUT:
		return error_set(ret_error, -ETIMEDOUT, "%s: the host does not answer", job->url);
	case 0:
		return error_set(ret_error, -EIO, "%s: cannot connect", job->url);
	default:
		return error_set(ret_error, -EIO, "%s: cannot connect: %s", job->url, strerror((int)os_errno));
	}
}

static int outcome_broken(const struct fetch_job *job, struct error *ret_error)
{
	/* "Recv failure: Connection reset by peer"; other texts are about what was received. */
	const char *reason = strstr(job->curl_error, "failure: ");

	if (reason)
		return error_set(ret_error, -EIO, "%s: the connection broke: %s", job->url,
				 reason + strlen("failure: "));
	return error_set(ret_error, -EPROTO, "%s: the answer is damaged: %s", job->url,
			 job->curl_error[0] ? job->curl_error : "unknown reason");
}

static int outcome_not_http(const struct fetch_job *job, struct error *ret_error)
{
	long status = 0;

	curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status / 100 == 3)
		return error_set(ret_error, -EPROTO, "%s: it redirects to something that is neither http nor https",
				 job->url);
	return error_set(ret_error, -EPROTO, "%s: the answer is not HTTP", job->url);
}

static int outcome(const struct fetch_job *job, CURLcode code, struct error *ret_error)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_CONNECT:
		return outcome_not_connected(job, ret_error);
	case CURLE_COULDNT_RESOLVE_HOST:
		return error_set(ret_error, -EHOSTUNREACH, "%s: the host name cannot be resolved", job->url);
	case CURLE_OPERATION_TIMEDOUT:
		return error_set(ret_error, -ETIMEDOUT, "%s: the host does not answer", job->url);
	case CURLE_WRITE_ERROR:
		if (job->too_large)
			return error_set(ret_error, -EFBIG, "%s: the answer is larger than %zu bytes", job->url,
					 job->response_max);
		return error_set(ret_error, -EIO, "%s: out of memory for the answer", job->url);
	case CURLE_GOT_NOTHING:
		return error_set(ret_error, -EPROTO, "%s: the connection was closed without an answer", job->url);
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_HTTP2:
		return outcome_not_http(job, ret_error);
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		return outcome_broken(job, ret_error);
	case CURLE_BAD_CONTENT_ENCODING:
		return error_set(ret_error, -EPROTO, "%s: the compressed answer is damaged", job->url);
	case CURLE_TOO_MANY_REDIRECTS:
		return error_set(ret_error, -EPROTO, "%s: more than %ld redirects", job->url, REDIRECTS_MAX);
	case CURLE_PARTIAL_FILE:
		return error_set(ret_error, -EIO, "%s: the answer was cut off after %zu bytes", job->url,
				 job->data.len);
	case CURLE_PEER_FAILED_VERIFICATION:
		return error_set(ret_error, -EPROTO, "%s: the server's certificate is not trusted: %s", job->url,
				 job->curl_error[0] ? job->curl_error : "unknown reason");
	default:
		return error_set(ret_error, -EIO, "%s: %s", job->url,
				 job->curl_error[0] ? job->curl_error : curl_easy_strerror(code));
	}
}

static void fetch_destroy(struct fetch *fetch)
{
	if (fetch->multi)
		curl_multi_cleanup(fetch->multi);
	loop_timer_free(fetch->timer);
	free(fetch);
	curl_global_cleanup();
}

/* Calls back and frees the job. False when the callback freed the whole fetch. */
static bool job_deliver(struct fetch_job *job, int r, const struct error *error)
{
	struct fetch *fetch = job->fetch;
	struct fetch_response response = {
		.r = r,
		.error = error->text,
		.content_type = "",
		.duration_s = ns_to_seconds(mono_since_ns(mono_now(), job->started)),
	};
	char *content_type = NULL;

	curl_multi_remove_handle(fetch->multi, job->easy);
	curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &response.status);
	if (curl_easy_getinfo(job->easy, CURLINFO_CONTENT_TYPE, &content_type) == CURLE_OK && content_type)
		response.content_type = content_type;
	response.data = job->data.data ? job->data.data : "";
	response.len = job->data.len;

	job->delivering = true;
	fetch->delivering = true;
	job->fn(job, &response, job->userdata);
	fetch->delivering = false;
	job_free(job);
	if (!fetch->freed)
		return true;
	fetch_destroy(fetch);
	return false;
}

static void job_timed_out(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct fetch_job *job = userdata;
	struct error error = { 0 };
	int r = outcome_timeout(job, &error);

	job_deliver(job, r, &error);
}

/* libcurl's side */

static void deliver_finished(struct fetch *fetch)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(fetch->multi, &left))) {
		struct fetch_job *job = NULL;
		struct error error = { 0 };
		int r;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&job);
		r = outcome(job, message->data.result, &error);
		if (!job_deliver(job, r, &error))
			return;
	}
}

static void curl_timer_expired(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct fetch *fetch = userdata;
	int running;

	curl_multi_socket_action(fetch->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	deliver_finished(fetch);
}

static int curl_wants_timer(CURLM *multi, long timeout_ms, void *userdata)
{
	struct fetch *fetch = userdata;

	if (timeout_ms < 0)
		loop_timer_stop(fetch->timer);
	else
		loop_timer_start(fetch->timer, (uint64_t)timeout_ms * NS_PER_MS, 0);
	return 0;
}

/* One per socket that libcurl has us watch; libcurl keeps the pointer for us. */
struct watch {
	struct fetch *fetch;
	curl_socket_t fd;
	struct loop_fd *loop_fd;
};

static void socket_ready(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct watch *watch = userdata;
	struct fetch *fetch = watch->fetch;
	int running;

	curl_multi_socket_action(fetch->multi, watch->fd,
				 (events & LOOP_READABLE ? CURL_CSELECT_IN : 0) |
				 (events & LOOP_WRITABLE ? CURL_CSELECT_OUT : 0), &running);
	deliver_finished(fetch);
}

static struct watch *watch_new(struct fetch *fetch, curl_socket_t fd, unsigned events)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->fetch = fetch;
	watch->fd = fd;
	if (loop_fd_new(fetch->loop, fd, events, socket_ready, watch, &watch->loop_fd) < 0) {
		free(watch);
		return NULL;
	}
	return watch;
}

static int curl_wants_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data)
{
	struct fetch *fetch = userdata;
	struct watch *watch = socket_data;
	unsigned events = (what & CURL_POLL_IN ? LOOP_READABLE : 0) | (what & CURL_POLL_OUT ? LOOP_WRITABLE : 0);

	if (what == CURL_POLL_REMOVE) {
		if (watch) {
			loop_fd_free(watch->loop_fd);
			free(watch);
		}
		curl_multi_assign(fetch->multi, fd, NULL);
		return 0;
	}
	if (watch) {
		loop_fd_events(watch->loop_fd, events);
		return 0;
	}
	/* Out of memory: the job is not served and runs into its time-out. */
	watch = watch_new(fetch, fd, events);
	curl_multi_assign(fetch->multi, fd, watch);
	return 0;
}

static size_t curl_has_data(char *data, size_t size, size_t n, void *userdata)
{
	struct fetch_job *job = userdata;
	const size_t len = size * n;

	if (len > job->response_max - job->data.len) {
		job->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	buffer_append(&job->data, data, len);
	return buffer_ok(&job->data) ? len : CURL_WRITEFUNC_ERROR;
}

/* Interface */

int fetch_new(struct loop *loop, unsigned connections_max, struct fetch **ret_fetch)
{
	struct fetch *fetch;
	int r;

	/* Counted by libcurl; safe with other users in the process. */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	fetch = calloc(1, sizeof(*fetch));
	if (!fetch) {
		curl_global_cleanup();
		return -ENOMEM;
	}
	fetch->loop = loop;
	r = loop_timer_new(loop, curl_timer_expired, fetch, &fetch->timer);
	fetch->multi = curl_multi_init();
	if (r < 0 || !fetch->multi) {
		fetch_destroy(fetch);
		return r < 0 ? r : -ENOMEM;
	}
	curl_multi_setopt(fetch->multi, CURLMOPT_TIMERFUNCTION, curl_wants_timer);
	curl_multi_setopt(fetch->multi, CURLMOPT_TIMERDATA, fetch);
	curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETFUNCTION, curl_wants_socket);
	curl_multi_setopt(fetch->multi, CURLMOPT_SOCKETDATA, fetch);
	if (connections_max) {
		curl_multi_setopt(fetch->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)connections_max);
		curl_multi_setopt(fetch->multi, CURLMOPT_MAXCONNECTS, (long)connections_max);
	}
	*ret_fetch = fetch;
	return 0;
}

void fetch_free(struct fetch *fetch)
{
	struct fetch_job *next;

	if (!fetch)
		return;
	for (struct fetch_job *job = fetch->jobs; job; job = next) {
		next = job->next;
		fetch_cancel(job);
	}
	if (fetch->delivering)
		fetch->freed = true;
	else
		fetch_destroy(fetch);
}

/* What libcurl cannot parse may hold a password all the same, so this does not ask it. */
char *fetch_url_shown(const char *url)
{
	const char *scheme_end = strstr(url, "://"), *host = scheme_end ? scheme_end + 3 : url;
	const char *end = host + strcspn(host, "/?#");
	const char *at = memrchr(host, '@', (size_t)(end - host));
	struct buffer shown = BUFFER_INIT;

	buffer_append(&shown, url, (size_t)(host - url));
	buffer_puts(&shown, at ? at + 1 : host);
	return buffer_steal(&shown, NULL);
}

/* Checks the URL and makes its text for messages. */
static int url_check(const char *url, char **ret_shown, struct error *ret_error)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *shown = fetch_url_shown(url);
	CURLUcode code;
	int r = 0;

	if (!u || !shown) {
		curl_url_cleanup(u);
		free(shown);
		return error_set_errno(ret_error, -ENOMEM, "cannot fetch");
	}
	code = curl_url_set(u, CURLUPART_URL, url, 0);
	if (code == CURLUE_OK)
		code = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
	if (code != CURLUE_OK)
		r = error_set(ret_error, -EINVAL, "\"%s\" is not a URL such as http://10.0.0.2:9435/metrics (%s)", shown,
			      curl_url_strerror(code));
	else if (strcmp(scheme, "http") && strcmp(scheme, "https"))
		r = error_set(ret_error, -EINVAL, "\"%s\": only http and https can be fetched", shown);
	curl_free(scheme);
	free(shown);
	if (r == 0) {
		curl_url_set(u, CURLUPART_USER, NULL, 0);
		curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
		if (curl_url_get(u, CURLUPART_URL, ret_shown, 0) != CURLUE_OK)
			r = error_set_errno(ret_error, -ENOMEM, "cannot fetch");
	}
	curl_url_cleanup(u);
	return r;
}

static int add_headers(struct fetch_job *job, const struct fetch_request *request)
{
	struct curl_slist *list;

	/* An empty Expect: no round trip before a body is sent. */
	list = curl_slist_append(NULL, "Expect:");
	if (!list)
		return -ENOMEM;
	job->headers = list;
	for (const char *const *h = request->headers; h && *h; h++) {
		list = curl_slist_append(job->headers, *h);
		if (!list)
			return -ENOMEM;
	}
	curl_easy_setopt(job->easy, CURLOPT_HTTPHEADER, job->headers);
	return 0;
}

static int set_method(struct fetch_job *job, const struct fetch_request *request)
{
	if (request->body) {
		curl_easy_setopt(job->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
		if (curl_easy_setopt(job->easy, CURLOPT_COPYPOSTFIELDS, request->body) != CURLE_OK)
			return -ENOMEM;
	} else if (request->method && !strcmp(request->method, "POST")) {
		curl_easy_setopt(job->easy, CURLOPT_POST, 1L);
		curl_easy_setopt(job->easy, CURLOPT_POSTFIELDSIZE, 0L);
	}
	if (request->method && !strcmp(request->method, "HEAD"))
		curl_easy_setopt(job->easy, CURLOPT_NOBODY, 1L);
	else if (request->method && curl_easy_setopt(job->easy, CURLOPT_CUSTOMREQUEST, request->method) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

static int job_setup(struct fetch_job *job, const struct fetch_request *request)
{
	CURL *easy = job->easy;
	int r;

	if (curl_easy_setopt(easy, CURLOPT_URL, request->url) != CURLE_OK)
		return -ENOMEM;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, job);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, job->curl_error);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, curl_has_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, job);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "netsonde");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(easy, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
	curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* what is measured must not depend on the environment */
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* Removing a job whose name is still being resolved must not wait for the resolver's thread. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	r = set_method(job, request);
	return r < 0 ? r : add_headers(job, request);
}

int fetch_start(struct fetch *fetch, const struct fetch_request *request, fetch_fn fn, void *userdata,
		struct fetch_job **ret_job, struct error *ret_error)
{
	struct fetch_job *job;
	char *url = NULL;
	int r;

	r = url_check(request->url, &url, ret_error);
	if (r < 0)
		return r;
	job = calloc(1, sizeof(*job));
	if (!job) {
		curl_free(url);
		return error_set_errno(ret_error, -ENOMEM, "cannot fetch %s", request->url);
	}
	job->fetch = fetch;
	job->url = url;
	job->fn = fn;
	job->userdata = userdata;
	job->timeout_ns = request->timeout_ns ? request->timeout_ns : TIMEOUT_DEFAULT_NS;
	job->response_max = request->response_max ? request->response_max : RESPONSE_MAX_DEFAULT;
	job->started = mono_now();
	job->easy = curl_easy_init();
	r = job->easy ? job_setup(job, request) : -ENOMEM;
	if (r == 0)
		r = loop_timer_new(fetch->loop, job_timed_out, job, &job->timer);
	if (r == 0)
		r = loop_timer_start(job->timer, job->timeout_ns, 0);
	if (r == 0 && curl_multi_add_handle(fetch->multi, job->easy) != CURLM_OK)
		r = -ENOMEM;
	if (r < 0) {
		error_set_errno(ret_error, r, "cannot fetch %s", job->url);
		job_free(job);
		return r;
	}
	job->next = fetch->jobs;
	if (job->next)
		job->next->prev = job;
	fetch->jobs = job;
	if (ret_job)
		*ret_job = job;
	return 0;
}

void fetch_cancel(struct fetch_job *job)
{
	if (job && !job->delivering) /* a job that is being delivered goes by itself */
		job_free(job);
}

const char *fetch_response_header(struct fetch_job *job, const char *name)
{
	struct curl_header *header = NULL;

	assert(job->delivering);
	if (curl_easy_header(job->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return NULL;
	return header->value;
}
