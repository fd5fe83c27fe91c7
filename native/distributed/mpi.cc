#include "native/distributed/mpi.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <thread>

#include "native/distributed/mpi_library.h"

namespace simdnorm::distributed {
namespace {

using namespace mpi;
using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

enum Tag { kHeaderTag = 0, kDataTag, kEndTag, kNoteTag };

// Of all ranks together: what is under way at a time lies in memory of the engine's own, because MPI may write there
// still when the caller has long been told that a peer is gone. MPI counts with an int, too.
constexpr size_t kPiece = size_t(8) << 20;

constexpr milliseconds kRollCall(500);
constexpr std::chrono::seconds kLeaving(10);

// Between two looks at what has arrived. MPI moves large data only while somebody looks.
class Pause {
 public:
  // `bytes` are about to come: at some 200 MB/s, nobody sleeps before.
  explicit Pause(size_t bytes) : awake_(microseconds(200) + std::chrono::nanoseconds(bytes * 5)) {}

  // What is looked for takes long.
  bool is_long() const { return is_long_; }

  // False after the deadline.
  bool until(Deadline deadline) {
    if (looks_ < kAtOnce) {
      looks_++;
      return true;
    }
    const Deadline now = Clock::now();
    if (now >= deadline) return false;
    if (looks_ == kAtOnce) {
      looks_++;
      began_ = now;
    }
    const auto waited = now - began_;
    if (waited < awake_) {
      std::this_thread::yield();
      return true;
    }
    is_long_ = true;
    const Deadline::duration nap = waited < milliseconds(20)          ? microseconds(50)
                                   : waited < std::chrono::seconds(1) ? microseconds(200)
                                                                      : microseconds(1000);
    std::this_thread::sleep_for(nap < deadline - now ? nap : deadline - now);
    return true;
  }

 private:
  static constexpr int kAtOnce = 20;  // for a peer with a core of its own
  const Deadline::duration awake_;
  int looks_ = 0;
  bool is_long_ = false;
  Deadline began_;
};

template <class H>
class CommSplit : public Blocking {
 public:
  CommSplit(H comm, int color, int rank) : comm(comm), color(color), rank(rank) {}
  const H comm;
  const int color;
  int rank;  // there, then here
  int size = 0;
  H made = library<H>().no_comm;
  int error = kSuccess;

 private:
  void call() override {
    const Library<H>& l = library<H>();
    error = l.comm_split(comm, color, rank, &made);
    if (error != kSuccess || made == l.no_comm) return;
    l.comm_set_errhandler(made, l.errors_return);
    l.comm_rank(made, &rank);
    l.comm_size(made, &size);
  }
};

// A message of a rank that gives up, to all others: which, why, and who it thinks is missing.
struct Note {
  int32_t rank;
  int32_t outcome;
  uint8_t missing[1];

  static size_t bytes(size_t size) { return (offsetof(Note, missing) + size + 7) / 8 * 8; }
};

template <class H>
class MpiEngine final : public Engine {
 public:
  // Null without memory. An engine on a communicator that is not its own leaves no notes there.
  // `stopped` closes it as well.
  static MpiEngine* make(H comm, int rank, int size, bool own, const std::atomic<bool>* stopped = nullptr) {
    MpiEngine* const e = new (std::nothrow) MpiEngine(comm, rank, size, own, stopped);
    if (!e || (e->requests_ && e->headers_ && e->notes_)) return e;
    delete e;
    return nullptr;
  }

  ~MpiEngine() override {
    // MPI may write to what a failed group has, at any time.
    if (unfinished_) return;
    if (own_) {
      H comm = comm_;
      within(milliseconds(100), [&](bool) {
        l_.comm_free(&comm);
        return Wait::kDone;
      });
    }
    delete[] requests_;
    free(headers_);
    free(notes_);
    free(data_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void close() override { closed_.store(true); }

  Outcome run(const Collective& c) override {
    if (dead_) return Outcome::kClosed;
    const InUse use;
    const Outcome outcome = perform(c);
    if (outcome == Outcome::kOk) return outcome;
    dead_ = true;
    if (outcome != Outcome::kMismatch) unfinished();
    return outcome;
  }

  Outcome split(const int* ranks, int count, const Collective& c, Engine** made) override {
    if (dead_) return Outcome::kClosed;
    const InUse use;
    *made = nullptr;
    int color = kUndefined;
    for (int i = 0; i < count; i++) {
      if (ranks[i] == rank_) color = 0;
    }
    auto* const job = new (std::nothrow) CommSplit<H>(comm_, color, rank_);
    Outcome outcome = job ? Blocking::run(job, c.deadline, stopped_) : Outcome::kFailed;
    if (outcome == Outcome::kTimeout) say(c, "not all ranks have come to MPI_Comm_split");
    if (outcome == Outcome::kFailed) say(c, "no memory, or no thread");
    if (outcome == Outcome::kOk) {
      if (job->error != kSuccess) {
        outcome = failed(job->error, c);
      } else if (job->made != l_.no_comm) {
        *made = make(job->made, job->rank, job->size, true);
        if (!*made) outcome = Outcome::kFailed;
      }
      delete job;
    }
    if (outcome == Outcome::kOk) return outcome;
    dead_ = true;
    unfinished();
    return outcome;
  }

 private:
  MpiEngine(H comm, int rank, int size, bool own, const std::atomic<bool>* stopped)
      : l_(library<H>()),
        comm_(comm),
        rank_(rank),
        size_(size),
        own_(own),
        n_(static_cast<size_t>(size)),
        stopped_(stopped ? *stopped : closed_) {
    requests_ = new (std::nothrow) H[4 * n_ + 1];
    for (size_t i = 0; requests_ && i <= 4 * n_; i++) requests_[i] = l_.no_request;
    headers_ = static_cast<uint8_t*>(malloc((n_ + 1) * kHeader));
    notes_ = static_cast<uint8_t*>(malloc((n_ + 1) * Note::bytes(n_)));
  }

  enum class Wait {
    kMore,
    kDone,
    kLate,
    kClosed,
    kBroken,  // by an error of MPI, which is in `c`
    kTold,    // there is a note
  };

  // step(whether it takes long already) under the lock, until it says something else than kMore.
  template <class Step>
  Wait poll(Deadline deadline, size_t bytes, Step step, bool even_closed = false) {
    Pause pause(bytes);
    for (;;) {
      {
        const std::unique_lock<std::mutex> turn(lock(), std::try_to_lock);
        if (turn) {
          const Wait wait = step(pause.is_long());
          if (wait != Wait::kMore) return wait;
        }
      }
      if (stopped_.load(std::memory_order_relaxed) && !even_closed) return Wait::kClosed;
      if (!pause.until(deadline)) return Wait::kLate;
    }
  }
  template <class Step>
  Wait within(milliseconds time, Step step) {
    return poll(Clock::now() + time, 0, step, true);
  }

  // ---- messages between all pairs of ranks ----

  // Where their requests are: those of receives by rank, then those of sends.
  enum Place { kExchange = 0, kNotes = 2, kCollective = 4 };
  H* place(Place p) const { return requests_ + static_cast<size_t>(p) * n_; }

  // False: there is nobody to talk to, as `c` says.
  bool post(Place p, Tag tag, const uint8_t* mine, uint8_t* all, size_t bytes, const Collective& c) {
    H* const receives = place(p);
    H* const sends = receives + n_;
    const int count = static_cast<int>(bytes);
    for (int i = 1; i < size_; i++) {
      const int r = (rank_ + i) % size_;
      const int error = l_.irecv(all + static_cast<size_t>(r) * bytes, count, l_.byte, r, tag, comm_, &receives[r]);
      if (error != kSuccess) return broken(r, error, c);
    }
    for (int i = 1; i < size_; i++) {
      const int r = (rank_ + i) % size_;
      const int error = l_.isend(mine, count, l_.byte, r, tag, comm_, &sends[r]);
      if (error != kSuccess) return broken(r, error, c);
    }
    return true;
  }

  // Sends `mine` to each rank and has `bytes` from each in all[rank], but from this one.
  Wait exchange(Place p, Tag tag, const uint8_t* mine, uint8_t* all, size_t bytes, Deadline deadline,
                const Collective& c) {
    bool posted = false;
    size_t i = 0;
    return poll(deadline, 2 * n_ * bytes, [&](bool is_long) {
      if (!posted && !post(p, tag, mine, all, bytes, c)) return Wait::kBroken;
      posted = true;
      for (; i < 2 * n_; i++) {
        int done = 0;
        const int error = l_.test(&place(p)[i], &done, l_.ignore);
        if (error != kSuccess) {
          broken(static_cast<int>(i % n_), error, c);
          return Wait::kBroken;
        }
        if (!done) return is_long && p != kNotes && has_note() ? Wait::kTold : Wait::kMore;
      }
      // All have come, but to one that is late, some may have gone again. Open MPI's first look says what it knew, and
      // only then sees what has arrived.
      return tag == kHeaderTag && (has_note() || has_note()) ? Wait::kTold : Wait::kDone;
    });
  }

  // The ranks with messages that are still under way.
  void find_missing(Place p, const Collective& c) {
    within(milliseconds(100), [&](bool) {
      for (size_t i = 0; i < 2 * n_; i++) {
        int done = 0;
        if (l_.test(&place(p)[i], &done, l_.ignore) != kSuccess || !done) c.missing[i % n_] = 1;
      }
      return Wait::kDone;
    });
  }

  bool names_any(const Collective& c) const { return memchr(c.missing, 1, n_) != nullptr; }

  // How an exchange ended.
  Outcome outcome_of(Wait wait, const Collective& c) {
    switch (wait) {
      case Wait::kDone:
        return Outcome::kOk;
      case Wait::kTold:
        return read_note(c);
      case Wait::kLate:
        find_missing(kExchange, c);
        if (!names_any(c)) say(c, "the MPI library has been busy with another group");
        return tell(Outcome::kTimeout, c);
      case Wait::kClosed:
        return tell(Outcome::kClosed, c);
      default:
        return tell(Outcome::kLost, c);
    }
  }

  // ---- notes ----

  Note* note(int i) const { return reinterpret_cast<Note*>(notes_ + static_cast<size_t>(i) * Note::bytes(n_)); }
  const uint8_t* write_note(Outcome outcome, const Collective& c) {
    Note* const mine = note(size_);
    mine->rank = rank_;
    mine->outcome = static_cast<int32_t>(outcome);
    memcpy(mine->missing, c.missing, n_);
    return reinterpret_cast<const uint8_t*>(mine);
  }
  // So nobody waits for a rank that has given up.
  Outcome tell(Outcome outcome, const Collective& c) {
    if (!own_) return outcome;
    const uint8_t* const mine = write_note(outcome, c);
    within(milliseconds(100), [&](bool) {
      for (int r = 0; r < size_; r++) {
        if (r != rank_) {
          l_.isend(mine, static_cast<int>(Note::bytes(n_)), l_.byte, r, kNoteTag, comm_, &place(kNotes)[n_ + r]);
        }
      }
      return Wait::kDone;
    });
    return outcome;
  }
  bool has_note() {
    int flag = 0;
    return own_ && l_.iprobe(l_.any_source, kNoteTag, comm_, &flag, l_.ignore) == kSuccess && flag;
  }
  Outcome read_note(const Collective& c) {
    bool posted = false;
    const Wait wait = within(kRollCall, [&](bool) {
      int done = 0;
      H* const request = place(kNotes);
      if (!posted) {
        l_.irecv(note(0), static_cast<int>(Note::bytes(n_)), l_.byte, l_.any_source, kNoteTag, comm_, request);
      }
      posted = true;
      return l_.test(request, &done, l_.ignore) == kSuccess && done ? Wait::kDone : Wait::kMore;
    });
    const Note* const theirs = note(0);
    if (wait != Wait::kDone || theirs->rank < 0 || theirs->rank >= size_) return tell(Outcome::kClosed, c);
    const bool names_others = memchr(theirs->missing, 1, n_) && !theirs->missing[rank_];
    if (names_others) {
      memcpy(c.missing, theirs->missing, n_);
      return tell(static_cast<Outcome>(theirs->outcome), c);
    }
    c.missing[theirs->rank] = 1;
    const bool late = theirs->missing[rank_] != 0;
    snprintf(c.detail, kDetail, late ? "rank %d has given up waiting for this one" : "rank %d has closed its group",
             static_cast<int>(theirs->rank));
    return tell(Outcome::kLost, c);
  }

  // A collective does not say whom it waits for. All ranks are in it until the last has ended it, so that all that live
  // answer the first one to give up, and find out together who does not.
  Outcome call_roll(const Collective& c) {
    const uint8_t* const mine = write_note(Outcome::kTimeout, c);
    const Wait wait = exchange(kNotes, kNoteTag, mine, notes_, Note::bytes(n_), Clock::now() + kRollCall, c);
    if (wait == Wait::kClosed) return Outcome::kClosed;
    if (wait != Wait::kDone) find_missing(kNotes, c);
    Outcome outcome = Outcome::kTimeout;
    for (int r = 0; r < size_; r++) {
      if (r == rank_ || c.missing[r] || note(r)->outcome != static_cast<int32_t>(Outcome::kClosed)) continue;
      c.missing[r] = 1;
      outcome = Outcome::kLost;
    }
    if (!names_any(c)) say(c, "all ranks answer, but the data have not come in time");
    return outcome;
  }

  // How a collective ended.
  Outcome end_of(Wait wait, const Collective& c) {
    switch (wait) {
      case Wait::kDone:
        return Outcome::kOk;
      case Wait::kLate:
      case Wait::kTold:
        return call_roll(c);
      case Wait::kClosed:
        return tell(Outcome::kClosed, c);
      default:
        return tell(names_any(c) ? Outcome::kLost : Outcome::kFailed, c);
    }
  }

  // ---- operations ----

  Outcome perform(const Collective& c) {
    uint8_t* const mine = headers_ + n_ * kHeader;
    memset(headers_, 0, n_ * kHeader);
    memcpy(mine, c.header, kHeader);
    memcpy(headers_ + static_cast<size_t>(rank_) * kHeader, c.header, kHeader);
    const Wait wait = exchange(kExchange, kHeaderTag, mine, headers_, kHeader, c.deadline, c);
    const Outcome outcome = outcome_of(wait, c);
    for (size_t r = 0; r < n_; r++) {
      if (place(kExchange)[r] == l_.no_request) memcpy(c.headers + r * kHeader, headers_ + r * kHeader, kHeader);
    }
    if (outcome != Outcome::kOk) return outcome;
    if (!agree(c, size_)) return Outcome::kMismatch;
    if (c.kind == Kind::kBarrier || c.bytes == 0) return Outcome::kOk;
    return c.kind == Kind::kGather ? gather(c) : collective(c);
  }

  bool reserve(size_t bytes, const Collective& c) {
    if (bytes <= reserved_) return true;
    free(data_);
    data_ = static_cast<uint8_t*>(malloc(bytes));
    reserved_ = data_ ? bytes : 0;
    if (!data_) say(c, "out of memory");
    return data_ != nullptr;
  }

  Outcome gather(const Collective& c) {
    const size_t most = kPiece / n_ > 0 ? kPiece / n_ : 1;
    const size_t piece = c.bytes < most ? c.bytes : most;
    if (!reserve((n_ + 1) * piece, c)) return tell(Outcome::kFailed, c);
    uint8_t* const mine = data_ + n_ * piece;
    auto* const out = static_cast<uint8_t*>(c.out);
    for (size_t at = 0; at < c.bytes; at += piece) {
      const size_t bytes = c.bytes - at < piece ? c.bytes - at : piece;
      memcpy(mine, static_cast<const uint8_t*>(c.in) + at, bytes);
      const Outcome outcome = outcome_of(exchange(kExchange, kDataTag, mine, data_, bytes, c.deadline, c), c);
      if (outcome != Outcome::kOk) return outcome;
      for (size_t r = 0; r < n_; r++) {
        memcpy(out + r * c.bytes + at, r == static_cast<size_t>(rank_) ? mine : data_ + r * bytes, bytes);
      }
    }
    return Outcome::kOk;
  }

  Outcome collective(const Collective& c) {
    const size_t piece = c.bytes < kPiece ? c.bytes : kPiece;  // whole elements, as kPiece has them
    if (!reserve(piece, c)) return tell(Outcome::kFailed, c);
    auto* const out = static_cast<uint8_t*>(c.out);
    for (size_t at = 0; at < c.bytes; at += piece) {
      const size_t bytes = c.bytes - at < piece ? c.bytes - at : piece;
      memcpy(data_, out + at, bytes);
      bool posted = false;
      const Wait wait = poll(c.deadline, 4 * bytes, [&](bool is_long) {
        H* const request = place(kCollective);
        int error = posted ? kSuccess : post(bytes, request, c);
        posted = true;
        int done = 0;
        if (error == kSuccess) error = l_.test(request, &done, l_.ignore);
        if (error != kSuccess) {
          failed(error, c);
          return Wait::kBroken;
        }
        if (done) return Wait::kDone;
        return is_long && has_note() ? Wait::kTold : Wait::kMore;
      });
      const Outcome outcome = end_of(wait, c);
      if (outcome != Outcome::kOk) return outcome;
      memcpy(out + at, data_, bytes);
    }
    return end_of(exchange(kExchange, kEndTag, headers_, headers_, 0, c.deadline, c), c);
  }
  int post(size_t bytes, H* request, const Collective& c) {
    if (c.kind == Kind::kBroadcast) {
      return l_.ibcast(data_, static_cast<int>(bytes), l_.byte, c.root, comm_, request);
    }
    return l_.iallreduce(l_.in_place, data_, static_cast<int>(bytes / size_of(c.type)),
                         l_.types[static_cast<int>(c.type)], l_.operations[static_cast<int>(c.operation)], comm_,
                         request);
  }

  // ---- ends ----

  Outcome failed(int error, const Collective& c) {
    char words[2048] = "an error of MPI";  // more than any library's longest
    int length = 0;
    l_.error_string(error, words, &length);
    snprintf(c.detail, kDetail, "%.500s", words);
    return Outcome::kFailed;
  }
  bool broken(int r, int error, const Collective& c) {
    failed(error, c);
    c.missing[r] = 1;
    return false;
  }
  void unfinished() {
    unfinished_ = true;
    abandon();
  }

  const Library<H>& l_;
  const H comm_;
  const int rank_, size_;
  const bool own_;
  const size_t n_;  // size_
  std::atomic<bool> closed_{false};
  const std::atomic<bool>& stopped_;
  bool dead_ = false;
  bool unfinished_ = false;
  H* requests_;       // by Place; the last is of a collective
  uint8_t* headers_;  // by rank, then what is sent
  uint8_t* notes_;    // by rank, then what is sent
  uint8_t* data_ = nullptr;
  size_t reserved_ = 0;
};

template <class H>
class Begin : public Blocking {
 public:
  // Ranks of a short timeout need time to end, too.
  explicit Begin(Deadline::duration timeout) : patience(std::max<Deadline::duration>(timeout, kLeaving)) {}
  const Deadline::duration patience;
  int rank = 0, size = 0, level = 0;
  int error = kSuccess;

 private:
  void call() override {
    const Library<H>& l = library<H>();
    int initialized = 0;
    error = l.initialized(&initialized);
    if (error != kSuccess) return;
    error = initialized ? l.query_thread(&level) : l.init_thread(nullptr, nullptr, kSerialized, &level);
    if (error != kSuccess) return;
    if (!initialized) finalize_at_exit(patience);
    l.comm_set_errhandler(l.world, l.errors_return);
    l.comm_rank(l.world, &rank);
    l.comm_size(l.world, &size);
  }
};

template <class H>
Outcome open_world(const Opening& opening, Engine** made) {
  Collective c = {};
  c.kind = Kind::kBarrier;
  c.detail = opening.detail;
  c.deadline = Clock::now() + opening.timeout;
  auto* const begin = new (std::nothrow) Begin<H>(opening.timeout);
  Outcome outcome = begin ? Blocking::run(begin, c.deadline, opening.stopped) : Outcome::kFailed;
  if (outcome == Outcome::kTimeout) say(c, "in MPI_Init");
  if (outcome == Outcome::kFailed) say(c, "no memory, or no thread");
  if (outcome != Outcome::kOk) return outcome;
  const int rank = begin->rank, size = begin->size, level = begin->level, error = begin->error;
  delete begin;
  if (error != kSuccess) say(c, "MPI_Init has failed");
  if (error == kSuccess && level < kSerialized) say(c, "the MPI library does not allow calls from several threads");
  if (error != kSuccess || level < kSerialized) return Outcome::kFailed;

  const size_t n = static_cast<size_t>(size);
  const std::unique_ptr<uint8_t[]> headers(new (std::nothrow) uint8_t[n * kHeader]);
  const std::unique_ptr<uint8_t[]> missing(new (std::nothrow) uint8_t[n]());
  const std::unique_ptr<int[]> ranks(new (std::nothrow) int[n]);
  const std::unique_ptr<Engine> world(MpiEngine<H>::make(library<H>().world, rank, size, false, &opening.stopped));
  if (!headers || !missing || !ranks || !world) {
    say(c, "out of memory");
    return Outcome::kFailed;
  }
  const uint8_t header[kHeader] = "a new group of all ranks";
  c.header = header;
  c.headers = headers.get();
  c.missing = missing.get();
  for (int r = 0; r < size; r++) ranks[r] = r;
  outcome = world->run(c);
  if (outcome == Outcome::kOk) outcome = world->split(ranks.get(), size, c, made);
  memcpy(opening.missing, missing.get(), n < opening.room ? n : opening.room);
  return outcome;
}

}  // namespace

bool mpi_load(const char* library, char* detail) { return load(library, detail); }

Outcome mpi_open(const Opening& opening, Engine** made) {
  switch (loaded()) {
    case Abi::kOpenMpi:
      return open_world<void*>(opening, made);
    case Abi::kMpich:
      return open_world<int>(opening, made);
    default:
      return Outcome::kFailed;
  }
}

void mpi_abandon() { abandon(); }

}  // namespace simdnorm::distributed
