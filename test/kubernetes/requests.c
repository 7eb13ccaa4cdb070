/*
 * Requests at a steady rate, each a connection of its own, and the server that answers them.
 *
 *     requests serve PORT                       until SIGTERM
 *     requests ask RATE ADDRESS PORT [ADDRESS PORT …]   in turn, until SIGINT; then one line of JSON
 *
 * A request is lost that has no whole answer within a second. Of its connection it counts how far it had come: refused, unreachable and unanswered ones never were
 * open; of open ones the request was unacknowledged, or the other end's kernel had it and the server said nothing (stalled).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_OPEN = 8192, MAX_TARGETS = 16, MAX_EVENTS = 256, BURST = 64, TIMEOUT_MS = 1000, FIRST_PORT = 4000, PORTS = 60000 };
enum outcome { ANSWERED, REFUSED, UNREACHABLE, UNANSWERED, RESET, CUT, UNACKNOWLEDGED, STALLED, OUTCOMES };
static const char *const names[OUTCOMES] = { "answered", "refused", "unreachable", "unanswered", "reset", "cut", "unacknowledged", "stalled" };
static const char request[] = "GET / HTTP/1.0\r\nConnection: close\r\n\r\n";
static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

static volatile sig_atomic_t stopping;
static void stop(int number) { (void)number; stopping = 1; }

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void watch(int poll, int fd, unsigned events, unsigned long tag) {
  struct epoll_event event = { .events = events, .data.u64 = tag };
  if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

/* Reads what there is of the request, answers and closes: all requests come in one segment. */
static void serve(int port) {
  int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, off = 0;
  struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any };
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(listener, (struct sockaddr *)&any, sizeof any) != 0 || listen(listener, 4096) != 0) fail("listen");
  int poll = epoll_create1(0);
  watch(poll, listener, EPOLLIN, listener);
  while (!stopping) {
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(poll, events, MAX_EVENTS, 1000);
    for (int i = 0; i < count; i++) {
      int fd = (int)events[i].data.u64;
      if (fd == listener) {
        for (int one; (one = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) watch(poll, one, EPOLLIN, one);
        continue;
      }
      char buffer[4096];
      if (read(fd, buffer, sizeof buffer) > 0 && write(fd, answer, sizeof answer - 1) < 0) perror("write");
      close(fd);
    }
  }
}

struct attempt { int fd, open; double since; int received; char text[16]; };
static struct attempt attempts[MAX_OPEN];
static unsigned long tally[OUTCOMES];
static double begun, first_lost = -1, last_lost;

static void finish(struct attempt *attempt, enum outcome outcome) {
  tally[outcome]++;
  if (outcome != ANSWERED) {
    last_lost = attempt->since - begun;
    if (first_lost < 0) first_lost = last_lost;
  }
  close(attempt->fd);
  attempt->fd = -1;
}

static enum outcome outcome_of(int error) {
  if (error == ECONNREFUSED) return REFUSED;
  if (error == ECONNRESET || error == EPIPE) return RESET;
  if (error == EHOSTUNREACH || error == ENETUNREACH) return UNREACHABLE;
  errno = error;
  fail("request");
  return OUTCOMES;
}

static enum outcome outcome_of_late(const struct attempt *attempt) {
  if (!attempt->open) return UNANSWERED;
  struct tcp_info info = { 0 };
  socklen_t length = sizeof info;
  if (getsockopt(attempt->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) fail("TCP_INFO");
  return info.tcpi_unacked > 0 ? UNACKNOWLEDGED : STALLED;
}

/*
 * Ports in turn, and by the clock, so that askers one after the other go on with them (of up to 250 requests a second, for four minutes): a node that tracks a connection which was moved away from it would lead a new
 * one from the same port to the former server.
 */
static void take_port(int fd, int family, unsigned long number) {
  int on = 1;
  struct sockaddr_in6 from = { .sin6_family = family, .sin6_port = htons(FIRST_PORT + number % PORTS) };
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&from, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof from) != 0) fail("bind");
}

static void begin(int poll, unsigned long slot, const struct sockaddr_storage *to, unsigned long number) {
  struct attempt *attempt = &attempts[slot];
  *attempt = (struct attempt){ .since = now() };
  attempt->fd = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (attempt->fd < 0) fail("socket");
  take_port(attempt->fd, to->ss_family, number);
  socklen_t length = to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  if (connect(attempt->fd, (const struct sockaddr *)to, length) != 0 && errno != EINPROGRESS) return finish(attempt, outcome_of(errno));
  watch(poll, attempt->fd, EPOLLOUT, slot);
}

static void go_on(int poll, unsigned long slot, unsigned events) {
  struct attempt *attempt = &attempts[slot];
  if (attempt->fd < 0) return;
  if (events & EPOLLOUT) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    attempt->open = error == 0;
    if (error == 0 && write(attempt->fd, request, sizeof request - 1) < 0) error = errno;
    if (error != 0) return finish(attempt, outcome_of(error));
    struct epoll_event next = { .events = EPOLLIN, .data.u64 = slot };
    epoll_ctl(poll, EPOLL_CTL_MOD, attempt->fd, &next);
    return;
  }
  for (;;) {
    char buffer[4096];
    ssize_t size = read(attempt->fd, buffer, sizeof buffer);
    if (size < 0 && errno == EAGAIN) return;
    if (size < 0) return finish(attempt, outcome_of(errno));
    if (size == 0) {
      int whole = attempt->received == (int)sizeof answer - 1 && memcmp(attempt->text, answer, sizeof attempt->text) == 0;
      return finish(attempt, whole ? ANSWERED : CUT);
    }
    for (ssize_t at = 0; at < size && attempt->received + at < (ssize_t)sizeof attempt->text; at++) attempt->text[attempt->received + at] = buffer[at];
    attempt->received += size;
  }
}

static void ask(double rate, int count, char **words) {
  struct sockaddr_storage targets[MAX_TARGETS] = { 0 };
  if (count > MAX_TARGETS) exit(2);
  for (int i = 0; i < count; i++) {
    struct sockaddr_in *four = (struct sockaddr_in *)&targets[i];
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&targets[i];
    int port = htons(atoi(words[2 * i + 1]));
    if (inet_pton(AF_INET, words[2 * i], &four->sin_addr) == 1) *four = (struct sockaddr_in){ AF_INET, port, four->sin_addr, { 0 } };
    else {
      struct in6_addr address;
      if (inet_pton(AF_INET6, words[2 * i], &address) != 1) exit(2);
      *six = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = address };
    }
  }
  for (int i = 0; i < MAX_OPEN; i++) attempts[i].fd = -1;
  int poll = epoll_create1(0);
  /* Attempts are in a ring: those from `oldest` on may be open. */
  unsigned long sent = 0, oldest = 0;
  begun = now();
  unsigned long first = begun / 4;
  for (;;) {
    double time = now();
    while (oldest < sent && (attempts[oldest % MAX_OPEN].fd < 0 || time - attempts[oldest % MAX_OPEN].since > TIMEOUT_MS)) {
      struct attempt *late = &attempts[oldest % MAX_OPEN];
      if (late->fd >= 0) finish(late, outcome_of_late(late));
      oldest++;
    }
    if (stopping && oldest == sent) break;
    for (int burst = 0; !stopping && burst < BURST && sent < (time - begun) * rate / 1e3 && sent - oldest < MAX_OPEN; burst++, sent++)
      begin(poll, sent % MAX_OPEN, &targets[sent % count], first + sent);
    struct epoll_event events[MAX_EVENTS];
    int ready = epoll_wait(poll, events, MAX_EVENTS, 1);
    for (int i = 0; i < ready; i++) go_on(poll, events[i].data.u64, events[i].events);
  }
  printf("{\"sent\":%lu,\"seconds\":%.3f", sent, (now() - begun) / 1e3);
  for (int i = 0; i < OUTCOMES; i++) printf(",\"%s\":%lu", names[i], tally[i]);
  printf(",\"from\":%.0f,\"to\":%.0f}\n", first_lost, last_lost);
}

int main(int count, char **words) {
  struct sigaction action = { .sa_handler = stop };
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  if (count == 3 && strcmp(words[1], "serve") == 0) serve(atoi(words[2]));
  else if (count >= 5 && count % 2 == 1 && strcmp(words[1], "ask") == 0) ask(atof(words[2]), (count - 3) / 2, words + 3);
  else return 2;
  return 0;
}
