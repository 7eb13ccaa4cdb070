/*
 * The executable that a container runtime calls (CNI SPEC "Execution protocol"). It holds no logic: environment and standard
 * input go to the agent's Unix socket as one HTTP/1.1 request, the answer goes to standard output. It is C because runtimes
 * start it for every pod and poll STATUS every few seconds; it must be there and gone within a millisecond.
 *
 * An agent that is being replaced is waited for, so that its update fails no call. A DEL does not wait, and must not be lost, or the pod's
 * addresses leak: it is written to a bounded queue that the agent replays when it starts. STATUS tells at once how things are.
 * plugin/podlane.ts behaves the same where no C compiler is at hand.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONFIG (1 << 20)
#define MAX_OUTPUT (4 << 20)
#define MAX_HEAD 14000
#define MAX_QUEUE 1024
#define MAX_CONTAINER_ID 255
#define INPUT_TIMEOUT_MS 10000
#define STATUS_TIMEOUT_MS 5000
#define CALL_TIMEOUT_MS 90000
#define CONNECT_TIMEOUT_MS 2000
/* For an agent that is not there; $PODLANE_WAIT, in seconds, overrides it. With the call it comes to less than the two minutes that runtimes have. */
#define WAIT_MS 60000
#define WAIT_POLL_MS 100
#define TOTAL_MS 110000
#define DEFAULT_SOCKET "/run/podlane/agent.sock"
#define DEFAULT_QUEUE "/var/lib/podlane/del-queue"
#define VERSIONS "[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]"

static const char *const variables[][2] = {
    {"CNI_COMMAND", "X-Cni-Command"}, {"CNI_CONTAINERID", "X-Cni-Containerid"}, {"CNI_NETNS", "X-Cni-Netns"},
    {"CNI_IFNAME", "X-Cni-Ifname"},   {"CNI_ARGS", "X-Cni-Args"},               {"CNI_PATH", "X-Cni-Path"},
    {"TRACEPARENT", "X-Cni-Traceparent"}, {"TRACESTATE", "X-Cni-Tracestate"},   {"BAGGAGE", "X-Cni-Baggage"},
};

static char input[MAX_CONFIG + 1];
static size_t input_length;
static char output[MAX_OUTPUT + 1];
static size_t output_length;
static char head[MAX_HEAD + 256];
static size_t head_length;

static char socket_path[4096], queue_path[4096], cni_version[64];
static long long started;

static long long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- errors ---- */

static void print_json_string(const char *text) {
  putchar('"');
  for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
    if (*p == '"' || *p == '\\') printf("\\%c", *p);
    else if (*p < 32 || *p == 127) printf("\\u%04x", *p);
    else putchar(*p);
  }
  putchar('"');
}

static int fail(int code, const char *message, const char *details) {
  printf("{\"cniVersion\":");
  print_json_string(cni_version);
  printf(",\"code\":%d,\"msg\":", code);
  print_json_string(message);
  printf(",\"details\":");
  print_json_string(details);
  printf("}\n");
  return 1;
}

/* ---- the top-level strings of a JSON object ---- */

static unsigned hex4(const char *p) {
  unsigned value = 0;
  for (int i = 0; i < 4; i++) {
    char c = p[i];
    if (c >= '0' && c <= '9') value = value * 16 + (unsigned)(c - '0');
    else if (c >= 'a' && c <= 'f') value = value * 16 + (unsigned)(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F') value = value * 16 + (unsigned)(c - 'A' + 10);
    else return 0x110000;
  }
  return value;
}

static size_t put_utf8(char *to, unsigned c) {
  if (c < 0x80) { to[0] = (char)c; return 1; }
  if (c < 0x800) { to[0] = (char)(0xc0 | c >> 6); to[1] = (char)(0x80 | (c & 63)); return 2; }
  if (c < 0x10000) {
    to[0] = (char)(0xe0 | c >> 12); to[1] = (char)(0x80 | (c >> 6 & 63)); to[2] = (char)(0x80 | (c & 63));
    return 3;
  }
  to[0] = (char)(0xf0 | c >> 18); to[1] = (char)(0x80 | (c >> 12 & 63)); to[2] = (char)(0x80 | (c >> 6 & 63)); to[3] = (char)(0x80 | (c & 63));
  return 4;
}

/* Reads the string that begins at the quote `p`; returns what follows its end, or NULL. A text too long for `to` is left empty. */
static const char *read_string(const char *p, const char *end, char *to, size_t size) {
  size_t n = 0;
  int overflow = 0;
  for (p++; p < end && *p != '"';) {
    char piece[4];
    size_t length = 1;
    if (*p != '\\') piece[0] = *p++;
    else {
      if (end - p < 2) return NULL;
      char c = p[1];
      p += 2;
      if (c == 'u') {
        if (end - p < 4) return NULL;
        unsigned value = hex4(p);
        p += 4;
        if (value >= 0xd800 && value < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
          unsigned low = hex4(p + 2);
          if (low >= 0xdc00 && low < 0xe000) { value = 0x10000 + ((value - 0xd800) << 10) + (low - 0xdc00); p += 6; }
        }
        if (value > 0x10ffff) return NULL;
        if (value == 0) overflow = 1;
        length = put_utf8(piece, value);
      } else piece[0] = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
    }
    if (n + length >= size) overflow = 1;
    else { memcpy(to + n, piece, length); n += length; }
  }
  if (p >= end) return NULL;
  to[overflow ? 0 : n] = 0;
  return p + 1;
}

static const char *skip_space(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}

/*
 * Finds our keys at the top level; whatever is nested is passed over. 0: this is no JSON object, and the agent will say what is wrong with it.
 */
static int scan_config(void) {
  static char key[64], ignored[8];
  const char *p = skip_space(input, input + input_length), *end = input + input_length;
  if (p >= end || *p != '{') return 0;
  int depth = 1, expect_key = 1;
  for (p++; p < end && depth > 0;) {
    p = skip_space(p, end);
    if (p >= end) return 0;
    char c = *p;
    if (c == '"') {
      if (depth == 1 && expect_key) {
        if (!(p = read_string(p, end, key, sizeof key))) return 0;
        p = skip_space(p, end);
        if (p >= end || *p != ':') return 0;
        p = skip_space(p + 1, end);
        expect_key = 0;
        if (p >= end || *p != '"') continue;
        char *to = !strcmp(key, "socket") ? socket_path : !strcmp(key, "queue") ? queue_path : !strcmp(key, "cniVersion") ? cni_version : NULL;
        if (to) p = read_string(p, end, to, to == cni_version ? sizeof cni_version : sizeof socket_path);
        else p = read_string(p, end, ignored, sizeof ignored);
      } else p = read_string(p, end, ignored, sizeof ignored);
      if (!p) return 0;
    } else {
      if (c == '{' || c == '[') depth++;
      else if (c == '}' || c == ']') depth--;
      else if (c == ',' && depth == 1) expect_key = 1;
      p++;
    }
  }
  return depth == 0 && skip_space(p, end) == end;
}

/* ---- the request ---- */

static int read_input(void) {
  long long deadline = now_ms() + INPUT_TIMEOUT_MS;
  for (;;) {
    struct pollfd p = {.fd = 0, .events = POLLIN};
    long long left = deadline - now_ms();
    int ready = poll(&p, 1, left < 0 ? 0 : (int)left);
    if (ready == 0) { errno = ETIMEDOUT; return -1; }
    if (ready < 0) { if (errno == EINTR) continue; return -1; }
    ssize_t n = read(0, input + input_length, sizeof input - input_length);
    if (n < 0) { if (errno == EINTR || errno == EAGAIN) continue; return -1; }
    if (n == 0) { input[input_length < MAX_CONFIG ? input_length : MAX_CONFIG] = 0; return 0; }
    input_length += (size_t)n;
    if (input_length > MAX_CONFIG) { errno = EFBIG; return -1; }
  }
}

static int plain(unsigned char c) { return c > 32 && c < 127 && c != '%'; }

/* Whether the call can be carried out without: nothing but ADD and CHECK looks at the namespace and CNI_ARGS, and nothing at what follows these. */
static int dispensable(const char *variable, const char *command) {
  if (!strcmp(variable, "CNI_NETNS") || !strcmp(variable, "CNI_ARGS")) return strcmp(command, "ADD") && strcmp(command, "CHECK");
  return strcmp(variable, "CNI_COMMAND") && strcmp(variable, "CNI_CONTAINERID") && strcmp(variable, "CNI_IFNAME");
}

/* Name of the variable that does not fit, or NULL. */
static const char *build_head(const char *command) {
  for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
    const char *value = getenv(variables[i][0]);
    if (!value) continue;
    size_t length = strlen(variables[i][1]) + 4;
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) length += plain(*p) ? 1 : 3;
    if (head_length + length > MAX_HEAD) {
      if (dispensable(variables[i][0], command)) continue;
      return variables[i][0];
    }
    head_length += (size_t)sprintf(head + head_length, "%s: ", variables[i][1]);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
      if (plain(*p)) head[head_length++] = (char)*p;
      else head_length += (size_t)sprintf(head + head_length, "%%%02X", *p);
    }
    head_length += (size_t)sprintf(head + head_length, "\r\n");
  }
  return NULL;
}

/* ---- the agent ---- */

static int wait_for(int fd, short events, long long deadline) {
  for (;;) {
    struct pollfd p = {.fd = fd, .events = events};
    long long left = deadline - now_ms();
    int ready = poll(&p, 1, left < 0 ? 0 : (int)left);
    if (ready > 0) return 0;
    if (ready == 0) { errno = ETIMEDOUT; return -1; }
    if (errno != EINTR) return -1;
  }
}

static int send_all(int fd, const char *bytes, size_t length, long long deadline) {
  while (length > 0) {
    ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
    if (n > 0) { bytes += n; length -= (size_t)n; continue; }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return -1;
    if (wait_for(fd, POLLOUT, deadline) < 0) return -1;
  }
  return 0;
}

static int connect_agent(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(socket_path) >= sizeof address.sun_path) { errno = ENAMETOOLONG; return -1; }
  strcpy(address.sun_path, socket_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  long long deadline = now_ms() + CONNECT_TIMEOUT_MS;
  while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    /* EAGAIN: the backlog is full, as when many pods start at once. */
    if ((errno != EAGAIN && errno != EINTR) || now_ms() > deadline) { int e = errno; close(fd); errno = e; return -1; }
    poll(NULL, 0, 5);
  }
  return fd;
}

/* Answer body in output; returns the HTTP status, or -1 with errno: EPROTO = no proper answer came. */
static int call_agent(const char *command) {
  static char line[512];
  output_length = 0;
  int fd = connect_agent();
  if (fd < 0) return -1;
  long long deadline = now_ms() + (strcmp(command, "STATUS") ? CALL_TIMEOUT_MS : STATUS_TIMEOUT_MS);
  if (deadline > started + TOTAL_MS) deadline = started + TOTAL_MS;
  int n = snprintf(line, sizeof line, "POST /v1/cni HTTP/1.1\r\nHost: podlane\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n", input_length);
  if (send_all(fd, line, (size_t)n, deadline) < 0 || send_all(fd, head, head_length, deadline) < 0 || send_all(fd, "\r\n", 2, deadline) < 0 ||
      send_all(fd, input, input_length, deadline) < 0) return -1;
  for (;;) {
    if (wait_for(fd, POLLIN, deadline) < 0) return -1;
    ssize_t got = read(fd, output + output_length, MAX_OUTPUT - output_length);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    output_length += (size_t)got;
    if (output_length >= MAX_OUTPUT) { errno = EFBIG; return -1; }
  }
  close(fd);
  output[output_length] = 0;
  int status = 0;
  char *body = strstr(output, "\r\n\r\n");
  errno = EPROTO;
  if (!body || sscanf(output, "HTTP/1.1 %3d", &status) != 1) return -1;
  *body = 0;
  body += 4;
  char *length = strcasestr(output, "\r\ncontent-length:");
  size_t have = output_length - (size_t)(body - output);
  /* A shorter body means that the agent died while it answered. */
  if (!length || strtoul(length + 17, NULL, 10) != have) return -1;
  /* Only a success may say nothing. */
  if (body[0] != '{' && (have > 0 || status != 200)) return -1;
  memmove(output, body, have + 1);
  output_length = have;
  return status;
}

/* The agent ended before it answered: nobody knows whether it carried the call out. */
static int is_lost(int error) { return error == EPROTO || error == ECONNRESET || error == EPIPE; }

/*
 * Waits for an agent that is being replaced, as call_agent() does with its errno in `error`. A call that was lost is made once more, and no more often: it may
 * be what ended the agent. Before an ADD whatever the lost one made is removed.
 */
static int call_again(const char *command, int *error) {
  const char *text = getenv("PODLANE_WAIT");
  long long end = started + (text && *text ? strtol(text, NULL, 10) * 1000LL : WAIT_MS);
  int losses = 0, undo = 0, status;
  while (now_ms() < end && now_ms() < started + TOTAL_MS) {
    if (is_lost(*error)) { losses++; undo = !strcmp(command, "ADD"); }
    else if (*error != ENOENT && *error != ECONNREFUSED) return -1;
    if (losses > 1) return -1;
    poll(NULL, 0, WAIT_POLL_MS);
    const char *next = undo ? "DEL" : command;
    setenv("CNI_COMMAND", next, 1);
    head_length = 0;
    build_head(next);
    status = call_agent(next);
    if (status < 0) { *error = errno; continue; }
    if (!undo) return status;
    undo = 0;
    *error = ENOENT;
  }
  return -1;
}

static int write_output(void) {
  for (size_t done = 0; done < output_length;) {
    ssize_t n = write(1, output + done, output_length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    done += (size_t)n;
  }
  return 0;
}

/* ---- the queue ---- */

static int valid_name(const char *text, size_t maximum, int container) {
  size_t length = strlen(text);
  if (length == 0 || length > maximum || !strcmp(text, ".") || !strcmp(text, "..")) return 0;
  for (size_t i = 0; i < length; i++) {
    char c = text[i];
    int alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (container ? !(alnum || (i > 0 && (c == '_' || c == '.' || c == '-'))) : (c == '/' || c == ':' || c == '%' || (unsigned char)c <= 32)) return 0;
  }
  return 1;
}

static int make_directories(const char *path) {
  static char part[4096];
  snprintf(part, sizeof part, "%s", path);
  for (char *p = part + 1; *p; p++) {
    if (*p != '/') continue;
    *p = 0;
    if (mkdir(part, 0700) < 0 && errno != EEXIST) return -1;
    *p = '/';
  }
  return mkdir(part, 0700) < 0 && errno != EEXIST ? -1 : 0;
}

static int count_queue(void) {
  DIR *d = opendir(queue_path);
  if (!d) return -1;
  int count = 0;
  for (struct dirent *e; (e = readdir(d));) if (e->d_name[0] != '.') count++;
  closedir(d);
  return count;
}

static int write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    bytes += n;
    length -= (size_t)n;
  }
  return 0;
}

/* One file for each attachment: the request's headers, an empty line, the configuration. On the disk when this returns 0. */
static int queue_del(const char *container, const char *ifname) {
  static char file[8192], temporary[8192];
  if (make_directories(queue_path) < 0) return -1;
  snprintf(file, sizeof file, "%s/%s@%s", queue_path, container, ifname);
  snprintf(temporary, sizeof temporary, "%s/.%d.new", queue_path, (int)getpid());
  if (access(file, F_OK) < 0) {
    int count = count_queue();
    if (count < 0) return -1;
    if (count >= MAX_QUEUE) { errno = ENOSPC; return -1; }
  }
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -1;
  int failed = write_all(fd, head, head_length) < 0 || write_all(fd, "\r\n", 2) < 0 || write_all(fd, input, input_length) < 0 || fsync(fd) < 0;
  int e = errno;
  close(fd);
  if (failed || rename(temporary, file) < 0) {
    if (!failed) e = errno;
    unlink(temporary);
    errno = e;
    return -1;
  }
  int directory = open(queue_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -1;
  int synced = fsync(directory);
  close(directory);
  return synced;
}

/* What no agent would accept is told at once: waiting for one, or keeping it, would not help. 0: the call may be a good one. */
static int refuse(const char *command, int is_object, int has_version) {
  static char message[128], quoted[80];
  const char *container = getenv("CNI_CONTAINERID"), *ifname = getenv("CNI_IFNAME"), *remedy = "the container runtime sets these variables";
  if (!is_object) return fail(6, "the network configuration on standard input is not a JSON object", "");
  snprintf(quoted, sizeof quoted, "\"%s\"", cni_version);
  snprintf(message, sizeof message, "cniVersion %s: not supported", has_version ? quoted : "is missing or no version");
  if (!has_version || !strstr(VERSIONS, quoted)) return fail(1, message, "podlane speaks " VERSIONS);
  if (strcmp(command, "DEL")) return 0;
  if (!container || !valid_name(container, MAX_CONTAINER_ID, 1)) return fail(4, "CNI_CONTAINERID is missing or not valid", remedy);
  if (!ifname || !valid_name(ifname, 15, 0)) return fail(4, "CNI_IFNAME is missing or not valid", remedy);
  return 0;
}

static int unreachable(const char *command, int error) {
  static char message[9000], details[9000];
  const char *container = getenv("CNI_CONTAINERID"), *ifname = getenv("CNI_IFNAME");
  const char *reason = error == EPROTO ? "it closed the connection without a whole answer" : strerror(error);
  snprintf(message, sizeof message, "the podlane agent at %s did not answer: %s", socket_path, reason);
  snprintf(details, sizeof details, "is the podlane agent running on this node, and is its socket %s? Set \"socket\" in the network configuration otherwise", socket_path);
  if (!strcmp(command, "STATUS")) return fail(50, message, details);
  if (strcmp(command, "DEL")) return fail(11, message, details);
  if (queue_del(container, ifname) == 0) return 0;
  snprintf(details, sizeof details, "and the DEL could not be queued in %s: %s (at most %d are kept); start the agent", queue_path, strerror(errno), MAX_QUEUE);
  return fail(11, message, details);
}

int main(void) {
  static char command[32];
  signal(SIGPIPE, SIG_IGN);
  started = now_ms();
  snprintf(command, sizeof command, "%s", getenv("CNI_COMMAND") ? getenv("CNI_COMMAND") : "");
  strcpy(cni_version, "1.1.0");
  strcpy(queue_path, DEFAULT_QUEUE);
  const char *from_env = getenv("PODLANE_SOCKET");
  snprintf(socket_path, sizeof socket_path, "%s", from_env && *from_env ? from_env : DEFAULT_SOCKET);
  if (!*command) return fail(4, "CNI_COMMAND is missing", "this is a CNI plugin: a container runtime calls it");
  if (read_input() < 0) return fail(5, "cannot read the network configuration from standard input", strerror(errno));
  *cni_version = 0;
  int is_object = scan_config(), has_version = *cni_version != 0;
  if (!has_version) strcpy(cni_version, "1.1.0");
  if (!strcmp(command, "VERSION")) {
    printf("{\"cniVersion\":");
    print_json_string(cni_version);
    printf(",\"supportedVersions\":" VERSIONS "}\n");
    return 0;
  }
  const char *too_long = build_head(command);
  if (too_long) {
    static char message[128];
    snprintf(message, sizeof message, "%s is too long", too_long);
    return fail(4, message, "the environment of a call has at most 14000 octets");
  }
  int status = call_agent(command);
  if (status < 0) {
    int error = errno;
    if (refuse(command, is_object, has_version)) return 1;
    if (strcmp(command, "STATUS") && strcmp(command, "DEL")) status = call_again(command, &error);
    if (status < 0) return unreachable(command, error);
  }
  if (write_output() < 0) return 1;
  return status == 200 ? 0 : 1;
}
