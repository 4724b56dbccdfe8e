#include <csignal>
#include <fcntl.h>
#include <random>
#include <sys/resource.h>

#include "fuzz.hpp"

// Runs a target without libFuzzer: `fuzz_X FOLDER N` on each file of a folder, then on N inputs
// made from them, always the same ones; `fuzz_X FILE` on one file.

extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*)());

namespace {

using Corpus = std::vector<std::string>;

constexpr std::size_t kLongestInputBytes = 4096;
constexpr rlim_t kMostMemoryBytes = rlim_t{4} << 30;
constexpr unsigned kLongestSeconds = 60;  // of one input: longer is a hang

// ---- the input that must not get lost

std::string current, crash_path;

void keep_current() {
  const int fd = ::open(crash_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const bool kept = ::write(fd, current.data(), current.size()) >= 0;
  ::dprintf(2, "fuzz: the input is %s in %s\n", kept ? "kept" : "not kept", crash_path.c_str());
  ::close(fd);
}
void on_signal(int number) {
  std::signal(number, SIG_DFL);
  keep_current();
  std::raise(number);
}

void run(std::string input) {
  current = std::move(input);
  ::alarm(kLongestSeconds);
  // A copy of its own size, so that a sanitizer sees who reads beyond it.
  const std::vector<uint8_t> bytes(current.begin(), current.end());
  [&]() noexcept { LLVMFuzzerTestOneInput(bytes.data(), bytes.size()); }();
}

// ---- mutations

class Mutator {
 public:
  explicit Mutator(const Corpus& corpus) : corpus_(corpus) {}

  std::string next() {
    text_ = pick(corpus_);
    for (std::size_t n = below(2) == 0 ? 1 : 1 + below(5); n > 0; --n) change();
    text_.resize(std::min(text_.size(), kLongestInputBytes));
    return text_;
  }

 private:
  std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }
  template <class T> const T& pick(const std::vector<T>& all) { return all[below(all.size())]; }
  /// A place in the text, and the length of a part that begins there.
  std::pair<std::size_t, std::size_t> part(const std::string& text) {
    const std::size_t at = below(text.size());
    return {at, below(std::min<std::size_t>(text.size() - at, 32)) + 1};
  }
  void overwrite(std::string_view bytes) {
    const std::size_t at = below(text_.size());
    text_.replace(at, bytes.size(), bytes);
  }

  /// An integer near one that means something.
  uint64_t integer() {
    const uint64_t bases[] = {0, text_.size(), below(16), uint64_t{1} << below(64)};
    const uint64_t base = bases[below(std::size(bases))];
    return base + below(3) - 1;
  }
  /// The same as files have it: 1 to 8 bytes, in either order.
  std::string integer_bytes() {
    const uint64_t value = integer();
    std::string bytes(std::size_t{1} << below(4), '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(value >> 8 * i);
    if (below(4) == 0) std::reverse(bytes.begin(), bytes.end());
    return bytes;
  }

  /// Replaces a decimal number, if there is one behind a random place.
  void change_number() {
    static const Corpus odd{"-1", "00", "1e400", "-0.5", "nan", "18446744073709551616"};
    constexpr const char* digits = "0123456789";
    const std::size_t at = text_.find_first_of(digits, below(text_.size()));
    if (at == std::string::npos) return;
    const std::size_t end = std::min(text_.find_first_not_of(digits, at), text_.size());
    text_.replace(at, end - at, below(3) == 0 ? pick(odd) : std::to_string(integer()));
  }

  void change() {
    const std::string& other = pick(corpus_);
    const auto [at, count] = part(text_);
    const auto [from, length] = part(other);
    switch (below(10)) {
      case 0:
        if (!text_.empty()) text_[at] = static_cast<char>(text_[at] ^ 1 << below(8));
        break;
      case 1:
        if (!text_.empty()) text_[at] = static_cast<char>(random_());
        break;
      case 2: overwrite(integer_bytes()); break;
      case 3: text_.insert(at, integer_bytes()); break;
      case 4: text_.erase(at, count); break;
      case 5: text_.insert(below(text_.size()), text_.substr(at, count)); break;
      case 6: text_ = text_.substr(0, at) + other.substr(from); break;
      case 7: overwrite(other.substr(from, length)); break;
      case 8: text_.resize(at); break;
      default: change_number();
    }
  }

  const Corpus& corpus_;
  std::string text_;
  std::mt19937_64 random_{1};
};

Corpus read_corpus(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry);
  std::sort(paths.begin(), paths.end());
  Corpus corpus;
  for (const auto& path : paths) corpus.push_back(content_of(path.string()));
  return corpus;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return std::fprintf(stderr, "fuzz: need a FILE, or a FOLDER and a number\n"), 2;
  const std::filesystem::path path = arguments[1];
  const std::string name = std::filesystem::path(arguments[0]).filename().string();  // fuzz_X
  crash_path = std::filesystem::absolute(name + "-crash").string();
  for (const int number : {SIGABRT, SIGALRM}) std::signal(number, on_signal);
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(keep_current);
  else
    for (const int number : {SIGSEGV, SIGFPE, SIGBUS, SIGILL}) std::signal(number, on_signal);
  if (!kAddressSanitizer && !kThreadSanitizer) {  // these map more than there is
    const rlimit limit{kMostMemoryBytes, kMostMemoryBytes};
    ::setrlimit(RLIMIT_AS, &limit);
  }
  if (!std::filesystem::is_directory(path)) return run(content_of(path.string())), 0;

  const Corpus corpus = read_corpus(path);
  must(!corpus.empty(), "the corpus has files");
  for (const std::string& input : corpus) run(input);
  const int mutated =
      (count > 2 ? std::atoi(arguments[2]) : 0) / (kAddressSanitizer || kThreadSanitizer ? 10 : 1);
  Mutator mutator(corpus);
  for (int i = 0; i < mutated; ++i) run(mutator.next());
  std::printf("fuzz: %s: %zu files replayed, %d inputs\n", name.substr(5).c_str(), corpus.size(),
              mutated);
}
