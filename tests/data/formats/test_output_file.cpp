#include <algorithm>
#include <csignal>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "descent/data/formats/file.hpp"

#include "files.hpp"

// How files are written: as a whole or not at all.

using namespace descent;
using data::OutputFile;

namespace {

void write(const std::string& path, const std::string& content) {
  OutputFile file("test", path, At::here());
  file.write(content);
  file.commit();
}
std::vector<std::string> names_in(const Folder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}
using Names = std::vector<std::string>;

/// Runs f in a process of its own; returns how it ended, as waitpid says.
template <class F> int in_child(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    f();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("a file has its content when it is committed, and the old one until then") {
  const Folder folder("output");
  const std::string path = (folder.path / "x").string();
  for (const std::size_t size : {std::size_t{0}, std::size_t{10}, std::size_t{65'536},
                                 std::size_t{65'537}, std::size_t{1'000'000}}) {
    const std::string content(size, 'c');
    write(path, "old");
    {
      OutputFile file("test", path, At::here());
      for (std::size_t i = 0; i < size; i += 30'000) file.write(content.substr(i, 30'000));
      CHECK(content_of(path) == "old");
      CHECK(names_in(folder).size() == 2);
      file.commit();
    }
    CHECK(content_of(path) == content);
    CHECK(names_in(folder) == Names{"x"});
  }
  { OutputFile file("test", path, At::here()); }  // never committed
  CHECK(content_of(path).size() == 1'000'000);
  CHECK(names_in(folder) == Names{"x"});
}

TEST_CASE("permissions, links and folders stay what they are") {
  const Folder folder("output");
  const std::string path = (folder.path / "x").string(), link = (folder.path / "link").string();
  const auto mode_of = [](const std::string& p) {
    struct stat info;
    return ::stat(p.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  };
  const mode_t before = ::umask(027);
  write(path, "1");
  ::umask(before);
  CHECK(mode_of(path) == 0640);
  ::chmod(path.c_str(), 0604);
  std::filesystem::create_symlink("x", link);
  write(link, "2");
  CHECK(std::filesystem::is_symlink(link));
  CHECK(content_of(path) == "2");
  CHECK(mode_of(path) == 0604);
  const std::string long_name(255, 'n');
  write((folder.path / long_name).string(), "3");
  CHECK(content_of((folder.path / long_name).string()) == "3");
}

TEST_CASE("what is no regular file is not replaced") {
  const Folder folder("output");
  const auto complaint = [](const std::string& path) {
    return refusal<IoError>([&] { OutputFile("test", path, At::here()); });
  };
  const std::string fifo = (folder.path / "fifo").string(), loop = (folder.path / "loop").string();
  ::mkfifo(fifo.c_str(), 0600);
  std::filesystem::create_symlink("loop", loop);
  CHECK(complaint(fifo) == "test: cannot write " + fifo + ": it is not a regular file");
  CHECK(complaint("/dev/full") == "test: cannot write /dev/full: it is not a regular file");
  CHECK(complaint(folder.path.string()) ==
        "test: cannot write " + folder.path.string() + ": it is not a regular file");
  CHECK(complaint(loop) == "test: cannot open " + loop + ": Too many levels of symbolic links");
  CHECK(complaint("/nowhere/x") == "test: cannot open /nowhere/x: No such file or directory");
  CHECK(complaint(fifo + "/x") == "test: cannot open " + fifo + "/x: Not a directory");
  CHECK(complaint(std::string("a\0b", 3)) == "test: cannot open a: Invalid argument");
  CHECK(names_in(folder) == Names{"fifo", "loop"});
}

TEST_CASE("temporary files of dead processes are removed, those of living ones are not") {
  const Folder folder("output");
  const std::string path = (folder.path / "x").string();
  const int status = in_child([&] {
    OutputFile file("test", path, At::here());
    ::raise(SIGKILL);
  });
  CHECK(WTERMSIG(status) == SIGKILL);
  CHECK(names_in(folder).size() == 1);
  OutputFile first("test", path, At::here());
  CHECK(names_in(folder).size() == 1);  // that of `first`
  folder.write(".y.tmp-1-1", "of another file");
  OutputFile second("test", path, At::here());
  CHECK(names_in(folder).size() == 3);
  second.write("second"), first.write("first");
  second.commit();
  first.commit();
  CHECK(content_of(path) == "first");  // the last to commit
  CHECK(names_in(folder) == Names{".y.tmp-1-1", "x"});
}

TEST_CASE("a disk that is full leaves the old file") {
  const Folder folder("output");
  const std::string path = (folder.path / "x").string();
  write(path, "old");
  std::signal(SIGXFSZ, SIG_IGN);
  const int status = in_child([&] {
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write(path, std::string(1'000'000, 'x'));
    } catch (const IoError& e) {
      if (std::string(e.what()).find("cannot write") != std::string::npos) ::_exit(7);
    }
  });
  std::signal(SIGXFSZ, SIG_DFL);
  CHECK(WEXITSTATUS(status) == 7);
  CHECK(content_of(path) == "old");
  CHECK(names_in(folder) == Names{"x"});
}

TEST_CASE("several writers of one file never mix") {
  const Folder folder("output");
  const std::string path = (folder.path / "x").string();
  write(path, std::string(300'000, 'a'));
  std::vector<pid_t> children;
  for (char c = 'a'; c < 'i'; ++c)
    if (const pid_t child = ::fork(); child != 0) {
      children.push_back(child);
    } else {
      int failed = 0;
      try {
        for (int i = 0; i < 20; ++i) write(path, std::string(300'000, c));
      } catch (const Error&) { failed = 1; }
      ::_exit(failed);
    }
  int mixed = 0;
  for (int i = 0; i < 50; ++i) {
    const std::string content = content_of(path);
    mixed += content != std::string(300'000, content.empty() ? ' ' : content[0]);
  }
  int failed = 0;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    failed += status != 0;
  }
  CHECK(mixed == 0);
  CHECK(failed == 0);
  CHECK(names_in(folder) == Names{"x"});
}

TEST_CASE("a process that is killed at any moment leaves one of the two files") {
  const Folder folder("output");
  const std::string path = (folder.path / "run.safetensors").string();
  const char* wanted = std::getenv("DESCENT_KILLS");
  const int kills = wanted ? std::atoi(wanted) : kAddressSanitizer || kThreadSanitizer ? 20 : 100;
  auto* shared = static_cast<volatile int64_t*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  int torn = 0, late = 0;
  Generator generator(1);
  for (int kill = 0; kill < kills; ++kill) {
    const pid_t child = ::fork();
    if (child == 0) {
      int64_t step = 0;
      Tensor x = zeros({1000});
      Checkpoint run(path);
      run.add("step", step);
      run.add("x", x);
      run.resume();
      for (;;) {
        shared[1] = step;    // the last state that was saved
        shared[0] = ++step;  // the one that is being saved
        x.fill_(static_cast<double>(step));
        run.save();
      }
    }
    // A busy machine may start the child late.
    for (const int64_t before = shared[0]; shared[0] == before;) ::usleep(100);
    ::usleep(static_cast<useconds_t>(generator.bounded(15'000)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    if (!std::filesystem::exists(path)) continue;  // killed before the first
    int64_t step = -1;
    Tensor x = zeros({1000});
    Checkpoint run(path);
    run.add("step", step);
    run.add("x", x);
    try {
      run.resume();
    } catch (const Error&) { ++torn; }
    late += step != shared[0] && step != shared[1];
    const auto expected = static_cast<double>(step);
    torn += x.max(0).item() != expected || min(x, 0).item() != expected;
  }
  CHECK(torn == 0);
  CHECK(late == 0);
  CHECK(shared[1] > kills / 2);  // most were killed in the middle of their work
  std::printf("killed: %d processes while they saved, %ld states\n", kills,
              static_cast<long>(shared[1]));
  write(path, "");
  CHECK(names_in(folder).size() == 1);
}
