// spawn.cpp: starting ranks, then one loop: a signal comes, a rank has ended, or patience is over.
#include "dist/spawn.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>
#include <optional>
#include <set>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "dist/launch.h"
#include "dist/roll_call.h"
#include "dist/siphash.h"

namespace minibert {
namespace {

constexpr int kPassedOn[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGQUIT};
constexpr int kCommunication = static_cast<int>(ErrorCategory::communication);
constexpr int kSavedAfterSignal = 75;
constexpr double kLookSeconds = 0.1;  // between looks at the clock

/// While it lives, signals wait until they are taken here, so that no handler is needed.
class SignalQueue {
 public:
  SignalQueue() {
    sigemptyset(&set_);
    for (const int signal : kPassedOn) sigaddset(&set_, signal);
    sigaddset(&set_, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set_, &former_mask_);
    struct sigaction by_default {};  // where it is ignored, nobody learns how a rank ended
    by_default.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &by_default, &former_child_);
  }
  ~SignalQueue() {
    sigaction(SIGCHLD, &former_child_, nullptr);
    pthread_sigmask(SIG_SETMASK, &former_mask_, nullptr);
  }
  SignalQueue(const SignalQueue&) = delete;
  SignalQueue& operator=(const SignalQueue&) = delete;

  /// The next one; 0 if none came within `seconds`, less than 1.
  int take(double seconds) const {
    const timespec time{0, static_cast<long>(1e9 * seconds)};
    return std::max(sigtimedwait(&set_, nullptr, &time), 0);
  }
  const sigset_t& former_mask() const { return former_mask_; }

 private:
  sigset_t set_, former_mask_;
  struct sigaction former_child_;
};

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> all;
  for (const std::string& word : words) all.push_back(const_cast<char*>(word.c_str()));
  all.push_back(nullptr);
  return all;
}

/// This process's variables, with some set anew.
std::vector<std::string> environment_with(std::vector<std::string> variables) {
  std::set<std::string> names;
  for (const std::string& variable : variables)
    names.insert(variable.substr(0, variable.find('=')));
  for (char** entry = environ; *entry; ++entry) {
    const std::string variable = *entry;
    if (!names.contains(variable.substr(0, variable.find('=')))) variables.push_back(variable);
  }
  return variables;
}

/// 0, or the system's error. A rank has no terminal to read from, this process's former signals, and
/// the listener, which other programs don't inherit, if it is rank 0.
int start_process(const SpawnOptions& options, const Launch& launch, const sigset_t& signals,
                  pid_t& process) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (launch.listener >= 0)
    ::posix_spawn_file_actions_adddup2(&files, launch.listener, launch.listener);
  if (!options.output.empty()) {
    ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, options.output.c_str(),
                                       O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  }
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  ::posix_spawnattr_setsigmask(&attributes, &signals);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  const std::vector<std::string> environment = environment_with(variables_of(launch));
  const int error = ::posix_spawn(&process, options.program.c_str(), &files, &attributes,
                                  pointers(options.command).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  return error;
}

class Ranks {
 public:
  explicit Ranks(const SpawnOptions& options) : options_(options) {}
  ~Ranks() {
    for (const Rank& rank : running_) {
      ::kill(rank.process, SIGKILL);
      ::waitpid(rank.process, nullptr, 0);
    }
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  void start_all() {
    const Socket listener = listen_at({"127.0.0.1", 0});
    Launch launch{.world = options_.ranks, .local_world = options_.ranks};
    launch.master = listener.here();
    launch.run_id = fmt::format("process {}", ::getpid());
    launch.secret = random_text();
    for (int rank = 0; rank < options_.ranks; ++rank) {
      launch.rank = launch.local_rank = rank;
      launch.listener = rank == 0 ? listener.fd() : -1;
      start(launch);
    }
  }

  int wait_for_all() {
    while (reap(), !running_.empty()) {
      urge();
      kill_as_planned();
      const int signal = signals_.take(seconds_to_look());
      if (signal == 0 || signal == SIGCHLD) continue;
      passed_on_.insert(signal);
      send(signal);
    }
    if (code_) return *code_;
    return failed_ ? kCommunication : 0;
  }

 private:
  struct Rank {
    int number;
    pid_t process;
  };

  void start(const Launch& launch) {
    pid_t process = 0;
    const int error = start_process(options_, launch, signals_.former_mask(), process);
    MB_CHECK(error == 0, "rank {}: {} can't be started: {}", launch.rank, options_.program,
             std::strerror(error));
    running_.push_back({launch.rank, process});
  }

  void send(int signal) {
    for (const Rank& rank : running_) ::kill(rank.process, signal);
  }

  /// Takes note of the ranks that have ended.
  void reap() {
    std::erase_if(running_, [&](const Rank& rank) {
      int status = 0;
      if (::waitpid(rank.process, &status, WNOHANG) != rank.process) return false;
      note_end(rank, status);
      return true;
    });
  }

  void note_end(const Rank& rank, int status) {
    if (status == 0) return;
    const bool killed = WIFSIGNALED(status);
    const int signal = killed ? WTERMSIG(status) : 0;
    const int code = killed ? 128 + signal : WEXITSTATUS(status);
    options_.say(killed ? fmt::format("rank {} was killed by signal {} ({})", rank.number, signal,
                                      ::strsignal(signal))
                        : fmt::format("rank {} ended with exit code {}", rank.number, code));
    const bool is_consequence =
        urged_ > 0 || code == kCommunication || (killed && !passed_on_.contains(signal));
    if (!code_ && !is_consequence) code_ = code;
    // Who has saved after a signal is in order; the others may still be saving.
    if (!failed_ && code != kSavedAfterSignal) failed_ = {rank.number, seconds_now()};
  }

  /// Ends the ranks that should have ended by themselves.
  void urge() {
    if (!failed_ || urged_ == 2) return;
    const bool first = urged_ == 0;
    const double patience = options_.patience + (first ? 0 : options_.last_words);
    if (seconds_now() < failed_->since + patience) return;
    ++urged_;
    options_.say(fmt::format("{} still running {:g} s after rank {} failed: sending {}",
                             text_of_running(), patience, failed_->rank,
                             first ? "SIGTERM" : "SIGKILL"));
    send(first ? SIGTERM : SIGKILL);
  }

  void kill_as_planned() {
    if (killed_ || !options_.kill || seconds_now() < begin_ + options_.kill->after) return;
    killed_ = true;
    for (const int signal :
         {SIGSTOP, SIGKILL})  // stopped, none ends because another was killed first
      for (const Rank& rank : running_)
        if (options_.kill->rank.value_or(rank.number) == rank.number) ::kill(rank.process, signal);
  }

  double seconds_to_look() const {
    if (killed_ || !options_.kill) return kLookSeconds;
    return std::clamp(begin_ + options_.kill->after - seconds_now(), 0.0, kLookSeconds);
  }

  std::string text_of_running() const {
    std::vector<int> numbers;
    for (const Rank& rank : running_) numbers.push_back(rank.number);
    return text_of_ranks(numbers);
  }

  struct Failure {
    int rank;
    double since;
  };

  const SpawnOptions& options_;
  const SignalQueue signals_;
  const double begin_ = seconds_now();
  bool killed_ = false;            // as planned
  std::vector<Rank> running_;      // in order
  std::set<int> passed_on_;        // signals
  std::optional<Failure> failed_;  // the first rank that failed
  std::optional<int> code_;        // the first exit code that is a cause
  int urged_ = 0;                  // 1: by SIGTERM, 2: by SIGKILL
};

}  // namespace

int spawn_ranks(const SpawnOptions& options) {
  MB_CHECK(options.ranks >= 1, "there are {} ranks, expected 1 or more", options.ranks);
  Ranks ranks(options);
  ranks.start_all();
  return ranks.wait_for_all();
}

}  // namespace minibert
