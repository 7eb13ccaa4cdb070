/*
 * Both ends of the traffic that bench/ sends through a BGP speaker (RFC 4271), driven by lines on standard input and answering with one JSON
 * object a line. It ends when standard input does, so that nothing stays behind a killed harness. Times are CLOCK_MONOTONIC seconds,
 * comparable between processes of one machine.
 *
 *   traffic feed LOCAL PEER ASN PREFIXES SETS SEED     "announce" sends the table, "withdraw" takes it back
 *   traffic sink PEER PREFIXES LOCAL/ASN...            one session each; tells when each has the table, and when it has lost it again
 *   traffic list PREFIXES SETS SEED                    prints the prefixes of the table, one a line
 *
 * The table is a function of PREFIXES, SETS and SEED: unique IPv4 prefixes with lengths spread as in the Internet's table, the sets of one
 * size, every UPDATE filled to 4096 octets. A sink adds up a hash of every prefix it hears and takes off that of every withdrawn one: equal
 * sums and counts mean that it holds exactly the table that was fed. A second sum takes in the last AS of every prefix's path, which numbers
 * the attribute set: equal, every prefix came with the path it was fed with.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 19, MAX_MESSAGE = 4096, OPEN = 1, UPDATE = 2, NOTIFICATION = 3, KEEPALIVE = 4 };
enum { SPEAKER_AS = 65000, HOLD_TIME = 240, KEEPALIVE_EVERY = 30, CONNECT_LIMIT = 30, MAX_SINKS = 64, RECEIVE_BUFFER = 256 * 1024, SEND_CHUNK = 256 * 1024 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

/* One line of JSON, at once. */
static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("traffic: ", stderr);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

static void *allocate(size_t size) {
  void *memory = calloc(1, size);
  if (memory == NULL) fail("no memory for %zu octets", size);
  return memory;
}

static long number(const char *name, const char *text, long least, long most) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno || *end || end == text || value < least || value > most) fail("%s %s: %ld..%ld is wanted", name, text, least, most);
  return value;
}

/* ---- octets ---- */

struct buffer {
  uint8_t *octets;
  size_t length, capacity;
};

/* Room for `more` octets behind the end. */
static uint8_t *reserve(struct buffer *buffer, size_t more) {
  if (buffer->length + more > buffer->capacity) {
    buffer->capacity = (buffer->capacity + more) * 2;
    buffer->octets = realloc(buffer->octets, buffer->capacity);
    if (buffer->octets == NULL) fail("no memory for %zu octets", buffer->capacity);
  }
  return buffer->octets + buffer->length;
}

static uint8_t *put16(uint8_t *at, unsigned value) {
  at[0] = value >> 8;
  at[1] = value;
  return at + 2;
}

static uint8_t *put32(uint8_t *at, uint32_t value) {
  return put16(put16(at, value >> 16), value & 0xffff);
}

static unsigned get16(const uint8_t *at) { return at[0] << 8 | at[1]; }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static void write_header(uint8_t *message, unsigned length, unsigned type) {
  memset(message, 0xff, 16);
  put16(message + 16, length);
  message[18] = type;
}

/* ---- the table ---- */

/* A prefix is one number: address in the upper bits, length in the lowest 8. */
static unsigned prefix_length(uint64_t prefix) { return prefix & 0xff; }
static unsigned prefix_octets(uint64_t prefix) { return (prefix_length(prefix) + 7) / 8; }

/* The last AS of a path, by which its attribute set is known. */
enum { FIRST_SET = 200000 };

/* The finaliser of SplitMix64: both the random numbers and the sums come from it. */
static uint64_t mix(uint64_t value) {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
  value = (value ^ value >> 27) * 0x94d049bb133111ebu;
  return value ^ value >> 31;
}

static uint64_t mix_path(uint64_t prefix, uint32_t last_as) { return mix(prefix | (uint64_t)last_as << 40); }

static uint64_t random_state;
static uint32_t below(uint32_t limit) {
  random_state += 0x9e3779b97f4a7c15u;
  return (mix(random_state) >> 32) * limit >> 32;
}

static uint64_t random_prefix(void) {
  static const struct { unsigned permille, length; } lengths[] = {
    {620, 24}, {725, 23}, {835, 22}, {885, 21}, {930, 20}, {955, 19}, {970, 18}, {980, 17}, {1000, 16},
  };
  uint32_t draw = below(1000);
  unsigned row = 0;
  while (draw >= lengths[row].permille) row++;
  uint32_t first;
  do first = 1 + below(223);
  while (first == 10 || first == 127);
  uint32_t address = (first << 24 | below(1 << 24)) & ~0u << (32 - lengths[row].length);
  return (uint64_t)address << 8 | lengths[row].length;
}

static uint64_t *unique_prefixes(long count) {
  size_t slots = 1;
  while (slots < (size_t)count * 2) slots *= 2;
  uint64_t *seen = allocate(slots * sizeof *seen), *prefixes = allocate(count * sizeof *prefixes);
  for (long filled = 0; filled < count;) {
    uint64_t prefix = random_prefix();
    size_t slot = mix(prefix) & (slots - 1);
    while (seen[slot] && seen[slot] != prefix) slot = (slot + 1) & (slots - 1);
    if (seen[slot]) continue;
    seen[slot] = prefixes[filled++] = prefix;
  }
  free(seen);
  return prefixes;
}

/* ORIGIN, AS_PATH, NEXT_HOP, and for some MULTI_EXIT_DISC and COMMUNITIES. The last AS numbers the set, so that no two are equal. */
static size_t random_attributes(uint8_t *attributes, uint32_t asn, const struct in_addr *next_hop, uint32_t set) {
  uint8_t *at = attributes;
  memcpy(at, (uint8_t[]){0x40, 1, 1, below(12) == 0 ? 2 : 0}, 4);
  at += 4;
  unsigned transit = 1 + below(5);
  memcpy(at, (uint8_t[]){0x40, 2, 2 + 4 * (transit + 2), 2, transit + 2}, 5);
  at = put32(at + 5, asn);
  for (unsigned i = 0; i < transit; i++) at = put32(at, 1000 + below(30000));
  at = put32(at, FIRST_SET + set);
  memcpy(at, (uint8_t[]){0x40, 3, 4}, 3);
  memcpy(at + 3, next_hop, 4);
  at += 7;
  if (below(4) == 0) {
    memcpy(at, (uint8_t[]){0x80, 4, 4}, 3);
    at = put32(at + 3, below(500));
  }
  unsigned communities = below(5);
  if (communities > 0) {
    memcpy(at, (uint8_t[]){0xc0, 8, 4 * communities}, 3);
    at += 3;
    for (unsigned i = 0; i < communities; i++) at = put32(at, (1000 + below(30000)) << 16 | below(1000));
  }
  return at - attributes;
}

struct table {
  struct buffer announce, withdraw;
  uint64_t sum, paths;
  long updates;
};

/* One UPDATE with as many of the prefixes [*next, end) as fit; moves *next behind them. */
static void add_update(struct buffer *buffer, const uint8_t *attributes, size_t size, const uint64_t *prefixes, long *next, long end) {
  uint8_t *message = reserve(buffer, MAX_MESSAGE), *at = message + HEADER;
  if (size > 0) {
    at = put16(put16(at, 0), size);
    memcpy(at, attributes, size);
    at += size;
  } else {
    at += 2;
  }
  /* A withdrawal ends with the length of its attributes, 0. */
  uint8_t *limit = message + MAX_MESSAGE - (size > 0 ? 0 : 2);
  for (; *next < end && at + 1 + prefix_octets(prefixes[*next]) <= limit; ++*next) {
    uint64_t prefix = prefixes[*next];
    *at++ = prefix_length(prefix);
    for (unsigned i = 0; i < prefix_octets(prefix); i++) *at++ = prefix >> (32 - 8 * i);
  }
  if (size == 0) {
    put16(message + HEADER, at - message - HEADER - 2);
    at = put16(at, 0);
  }
  write_header(message, at - message, UPDATE);
  buffer->length += at - message;
}

static void add_end_of_rib(struct buffer *buffer) {
  uint8_t *message = reserve(buffer, HEADER + 4);
  write_header(message, HEADER + 4, UPDATE);
  memset(message + HEADER, 0, 4);
  buffer->length += HEADER + 4;
}

static struct table make_table(long count, long sets, uint64_t seed, uint32_t asn, struct in_addr next_hop) {
  random_state = mix(seed + 1);
  struct table table = {0};
  uint64_t *prefixes = unique_prefixes(count);
  for (long i = 0; i < count; i++) table.sum += mix(prefixes[i]);
  for (long set = 0, next = 0; set < sets; set++) {
    uint8_t attributes[256];
    size_t size = random_attributes(attributes, asn, &next_hop, set);
    long end = count * (set + 1) / sets;
    for (long i = next; i < end; i++) table.paths += mix_path(prefixes[i], FIRST_SET + set);
    for (; next < end; table.updates++) {
      add_update(&table.announce, attributes, size, prefixes, &next, end);
    }
  }
  add_end_of_rib(&table.announce);
  for (long next = 0; next < count;) add_update(&table.withdraw, NULL, 0, prefixes, &next, count);
  free(prefixes);
  return table;
}

/* ---- a session, up to Established ---- */

static struct in_addr address(const char *text) {
  struct in_addr value;
  if (inet_pton(AF_INET, text, &value) != 1) fail("%s is not an IPv4 address", text);
  return value;
}

static bool send_all(int socket, const uint8_t *octets, size_t length) {
  while (length > 0) {
    ssize_t sent = send(socket, octets, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      poll(&(struct pollfd){.fd = socket, .events = POLLOUT}, 1, 1000);
      continue;
    }
    if (sent <= 0) return false;
    octets += sent;
    length -= sent;
  }
  return true;
}

static bool send_keepalive(int socket) {
  uint8_t message[HEADER];
  write_header(message, HEADER, KEEPALIVE);
  return send_all(socket, message, HEADER);
}

/* IPv4 unicast and 4-octet AS numbers, nothing else. */
static bool send_open(int socket, uint32_t asn, struct in_addr id) {
  uint8_t message[64], *at = message + HEADER;
  *at++ = 4;
  at = put16(at, asn > 0xffff ? 23456 : asn);
  at = put16(at, HOLD_TIME);
  memcpy(at, &id, 4);
  at += 4;
  memcpy(at, (uint8_t[]){14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4}, 11);
  at = put32(at + 11, asn);
  write_header(message, at - message, OPEN);
  return send_all(socket, message, at - message);
}

/* Waits for one whole message; its type, or -1 when the connection ended. */
static int receive_message(int socket, uint8_t *message) {
  if (recv(socket, message, HEADER, MSG_WAITALL) != HEADER) return -1;
  unsigned length = get16(message + 16);
  if (length < HEADER || length > MAX_MESSAGE) return -1;
  if (length > HEADER && recv(socket, message + HEADER, length - HEADER, MSG_WAITALL) != (ssize_t)(length - HEADER)) return -1;
  return message[18];
}

static int try_session(struct in_addr local, struct in_addr peer, uint32_t asn, char *reason, size_t size) {
  int one = 1, handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = local}, to = {.sin_family = AF_INET, .sin_addr = peer, .sin_port = htons(179)};
  uint8_t message[MAX_MESSAGE];
  setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 5}, sizeof(struct timeval));
  snprintf(reason, size, "no connection");
  if (bind(handle, (void *)&from, sizeof from) == 0 && connect(handle, (void *)&to, sizeof to) == 0 && send_open(handle, asn, local)) {
    int type = receive_message(handle, message);
    if (type == OPEN && send_keepalive(handle)) type = receive_message(handle, message);
    if (type == KEEPALIVE) {
      fcntl(handle, F_SETFL, O_NONBLOCK);
      return handle;
    }
    if (type == NOTIFICATION) snprintf(reason, size, "NOTIFICATION %d/%d", message[HEADER], message[HEADER + 1]);
    else snprintf(reason, size, "the connection ended before Established");
  }
  close(handle);
  return -1;
}

static int establish(struct in_addr local, struct in_addr peer, uint32_t asn) {
  char reason[64] = "";
  for (double limit = now() + CONNECT_LIMIT; now() < limit; usleep(50000)) {
    int handle = try_session(local, peer, asn, reason, sizeof reason);
    if (handle >= 0) return handle;
  }
  fail("no session as AS %u within %d s: %s", asn, CONNECT_LIMIT, reason);
  return -1;
}

/* The next command of the harness without its line end; false: there is none yet. Ends the program at the end of standard input. */
static bool read_command(char *command, size_t size) {
  static char line[64];
  static size_t length;
  ssize_t got = read(STDIN_FILENO, line + length, sizeof line - length);
  if (got <= 0) exit(0);
  length += got;
  char *end = memchr(line, '\n', length);
  if (end == NULL) {
    if (length == sizeof line) fail("a command longer than %zu octets", sizeof line);
    return false;
  }
  *end = 0;
  snprintf(command, size, "%s", line);
  length -= end + 1 - line;
  memmove(line, end + 1, length);
  return true;
}

/* ---- feed ---- */

/* What the speaker says is not looked at, except that the session goes on. */
static void drain(int socket) {
  static uint8_t scrap[RECEIVE_BUFFER];
  ssize_t got = recv(socket, scrap, sizeof scrap, 0);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) fail("feed: the speaker closed the session");
}

static void feed(char **arguments) {
  struct in_addr local = address(arguments[0]);
  uint32_t asn = number("ASN", arguments[2], 1, 4294967295);
  long count = number("PREFIXES", arguments[3], 1, 4000000), sets = number("SETS", arguments[4], 1, count);
  struct table table = make_table(count, sets, number("SEED", arguments[5], 0, 1000000000), asn, local);
  int socket = establish(local, address(arguments[1]), asn);
  say("{\"event\":\"established\",\"updates\":%ld,\"octets\":%zu,\"sum\":\"%016lx\",\"paths\":\"%016lx\"}", table.updates, table.announce.length,
      table.sum, table.paths);
  const struct buffer *sending = NULL;
  size_t sent = 0;
  for (double keepalive = now();;) {
    struct pollfd polls[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = socket, .events = POLLIN | (sending ? POLLOUT : 0)}};
    poll(polls, 2, 1000);
    char command[64];
    if (polls[0].revents && read_command(command, sizeof command)) {
      sending = strcmp(command, "announce") == 0 ? &table.announce : &table.withdraw;
      sent = 0;
      say("{\"event\":\"started\",\"time\":%.6f}", now());
    }
    if (polls[1].revents & ~POLLOUT) drain(socket);
    if (sending && polls[1].revents & POLLOUT) {
      size_t left = sending->length - sent;
      ssize_t wrote = send(socket, sending->octets + sent, left < SEND_CHUNK ? left : SEND_CHUNK, MSG_NOSIGNAL);
      if (wrote > 0) sent += wrote;
      if (sent == sending->length) {
        say("{\"event\":\"sent\",\"time\":%.6f}", now());
        sending = NULL;
      }
    }
    /* Only between messages; UPDATEs hold the session as well. */
    if (!sending && now() - keepalive > KEEPALIVE_EVERY) {
      keepalive = now();
      if (!send_keepalive(socket)) fail("feed: the speaker closed the session");
    }
  }
}

/* ---- sink ---- */

struct sink {
  int socket;
  uint8_t *octets;
  size_t have;
  long held, announced, withdrawn, updates;
  uint64_t sum, paths;
  bool complete;
};

/* The last AS of AS_PATH in the attributes [at, end); 0 where there is none. The path must begin with the speaker's AS. */
static uint32_t last_as(const uint8_t *at, const uint8_t *end) {
  while (at + 3 <= end) {
    unsigned extended = at[0] >> 4 & 1, type = at[1], length = extended ? get16(at + 2) : at[2];
    at += 3 + extended;
    if (at + length > end) break;
    if (type == 2 && length >= 6) {
      if (get32(at + 2) != SPEAKER_AS) fail("sink: a path that begins with AS %u, not with the speaker's %u", get32(at + 2), SPEAKER_AS);
      return get32(at + length - 4);
    }
    at += length;
  }
  return 0;
}

/* Adds (sign 1) or takes off (-1) the prefixes in [at, end). */
static void count_prefixes(struct sink *sink, const uint8_t *at, const uint8_t *end, int sign, uint32_t path) {
  while (at < end) {
    unsigned length = *at++, octets = (length + 7) / 8;
    if (length > 32 || at + octets > end) fail("sink: a prefix of %u bits that does not fit its UPDATE", length);
    uint64_t prefix = length;
    for (unsigned i = 0; i < octets; i++) prefix |= (uint64_t)*at++ << (32 - 8 * i);
    if (sign > 0) {
      sink->sum += mix(prefix);
      sink->paths += mix_path(prefix, path);
      sink->announced++;
    } else {
      sink->sum -= mix(prefix);
      sink->withdrawn++;
    }
    sink->held += sign;
  }
}

static void count_update(struct sink *sink, const uint8_t *message, unsigned length) {
  if (length < HEADER + 4) fail("sink: an UPDATE of %u octets", length);
  const uint8_t *end = message + length, *withdrawn = message + HEADER + 2, *attributes = withdrawn + get16(withdrawn - 2);
  if (attributes + 2 > end || attributes + 2 + get16(attributes) > end) fail("sink: an UPDATE whose lengths contradict each other");
  const uint8_t *announced = attributes + 2 + get16(attributes);
  count_prefixes(sink, withdrawn, attributes, -1, 0);
  count_prefixes(sink, announced, end, 1, announced < end ? last_as(attributes + 2, announced) : 0);
  sink->updates++;
}

/* UPDATEs are those since the last phase was complete. */
static void tell(const struct sink *sink, int index, const char *event) {
  say("{\"event\":\"%s\",\"sink\":%d,\"time\":%.6f,\"held\":%ld,\"announced\":%ld,\"withdrawn\":%ld,\"updates\":%ld,\"sum\":\"%016lx\","
      "\"paths\":\"%016lx\"}",
      event, index, now(), sink->held, sink->announced, sink->withdrawn, sink->updates, sink->sum, sink->paths);
}

static void receive(struct sink *sink, int index, long prefixes) {
  ssize_t got = recv(sink->socket, sink->octets + sink->have, RECEIVE_BUFFER - sink->have, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) fail("sink %d: the speaker closed the session at %ld prefixes", index, sink->held);
  sink->have += got;
  size_t at = 0;
  while (sink->have - at >= HEADER) {
    const uint8_t *message = sink->octets + at;
    unsigned length = get16(message + 16);
    if (length < HEADER || length > MAX_MESSAGE) fail("sink %d: a message of %u octets", index, length);
    if (sink->have - at < length) break;
    if (message[18] == NOTIFICATION) fail("sink %d: NOTIFICATION %d/%d at %ld prefixes", index, message[19], message[20], sink->held);
    if (message[18] == UPDATE) count_update(sink, message, length);
    at += length;
  }
  sink->have -= at;
  memmove(sink->octets, sink->octets + at, sink->have);
  if (!sink->complete && sink->held >= prefixes) {
    sink->complete = true;
    tell(sink, index, "announced");
    sink->updates = 0;
  } else if (sink->complete && sink->held <= 0) {
    sink->complete = false;
    tell(sink, index, "withdrawn");
    sink->updates = 0;
  }
}

static void sink(char **arguments, int count) {
  struct in_addr peer = address(arguments[0]);
  long prefixes = number("PREFIXES", arguments[1], 1, 4000000);
  if (count > MAX_SINKS) fail("%d sinks: at most %d", count, MAX_SINKS);
  struct sink sinks[MAX_SINKS] = {0};
  struct pollfd polls[MAX_SINKS + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};
  for (int i = 0; i < count; i++) {
    char local[64];
    const char *slash = strchr(arguments[2 + i], '/');
    if (slash == NULL) fail("%s: LOCAL/ASN is wanted", arguments[2 + i]);
    snprintf(local, sizeof local, "%.*s", (int)(slash - arguments[2 + i]), arguments[2 + i]);
    sinks[i].octets = allocate(RECEIVE_BUFFER);
    sinks[i].socket = establish(address(local), peer, number("ASN", slash + 1, 1, 4294967295));
    polls[1 + i] = (struct pollfd){.fd = sinks[i].socket, .events = POLLIN};
  }
  say("{\"event\":\"established\",\"sinks\":%d}", count);
  for (double keepalive = now();;) {
    poll(polls, count + 1, 1000);
    char command[64];
    /* The one command there is: how far is each? */
    if (polls[0].revents && read_command(command, sizeof command)) for (int i = 0; i < count; i++) tell(&sinks[i], i, "count");
    for (int i = 0; i < count; i++) if (polls[1 + i].revents) receive(&sinks[i], i, prefixes);
    if (now() - keepalive < KEEPALIVE_EVERY) continue;
    keepalive = now();
    for (int i = 0; i < count; i++) if (!send_keepalive(sinks[i].socket)) fail("sink %d: the speaker closed the session", i);
  }
}

static void list(char **arguments) {
  long count = number("PREFIXES", arguments[0], 1, 4000000);
  number("SETS", arguments[1], 1, count);
  random_state = mix(number("SEED", arguments[2], 0, 1000000000) + 1);
  const uint64_t *prefixes = unique_prefixes(count);
  for (long i = 0; i < count; i++) {
    uint32_t bits = prefixes[i] >> 8;
    printf("%u.%u.%u.%u/%u\n", bits >> 24, bits >> 16 & 255, bits >> 8 & 255, bits & 255, prefix_length(prefixes[i]));
  }
  exit(0);
}

int main(int count, char **arguments) {
  if (count == 8 && strcmp(arguments[1], "feed") == 0) feed(arguments + 2);
  else if (count >= 5 && strcmp(arguments[1], "sink") == 0) sink(arguments + 2, count - 4);
  else if (count == 5 && strcmp(arguments[1], "list") == 0) list(arguments + 2);
  fputs("usage: traffic feed LOCAL PEER ASN PREFIXES SETS SEED\n       traffic sink PEER PREFIXES LOCAL/ASN...\n       traffic list PREFIXES SETS SEED\n", stderr);
  return 64;
}
