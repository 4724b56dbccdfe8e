#include "descent/data/checkpoint.hpp"

#include <cmath>
#include <filesystem>
#include <fmt/format.h>

#include "descent/core/inspect/version.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

namespace fs = std::filesystem;

constexpr const char *kFormat = "descent.checkpoint", *kBuild = "descent.build";

/// The lines of `build_info` that decide bits: the number of threads does not.
std::string build() {
  const std::string all = build_info();
  return all.substr(0, all.rfind("threads:"));
}

/// What an entry's owner is found by: the name up to its first "/", or "" if there is none.
std::string head_of(const std::string& name) {
  const std::size_t slash = name.find('/');
  return slash == std::string::npos ? "" : name.substr(0, slash);
}

void rename_if_there(const std::string& from, const std::string& to, At at) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error && error != std::errc::no_such_file_or_directory)
    fail<IoError>(at, "Checkpoint: cannot rename {} to {}: {}", from, to, error.message());
}

/// A second name of a file until the end, which keeps it while another one takes its place.
struct SecondName : Pinned {
  explicit SecondName(std::string name_) : name(std::move(name_)) { fs::remove(name, error); }
  ~SecondName() { fs::remove(name, error); }
  std::string name;
  std::error_code error;
};

}  // namespace

Checkpoint::Checkpoint(std::string path, int) : path_(std::move(path)), best_(NAN) {
  add("best", best_);
  add_part("", values_);
  add_part("", default_generator());
}

void Checkpoint::check_name(const std::string& name, At at) {
  const bool taken = std::find(names_.begin(), names_.end(), name) != names_.end();
  if (name.empty() || taken || name.find('/') != std::string::npos)
    fail<ValueError>(at, "Checkpoint: add(\"{}\"): {}", name,
                     taken ? "this name is taken" : "need a name without \"/\"");
  names_.push_back(name);
}

void Checkpoint::keep_last(int64_t n, At at) {
  if (n < 1 || n > 1000) fail<ValueError>(at, "keep_last: {} files: need 1 to 1000", n);
  kept_ = n;
}

/// The state of each part, under the names that it has in the file.
std::vector<NamedTensors> Checkpoint::states() const {
  std::vector<NamedTensors> all;
  for (const Part& part : parts_) {
    all.push_back(part.save());
    for (auto& [name, tensor] : all.back()) name.insert(0, part.prefix);
  }
  return all;
}

/// Which part has the entries whose names begin so.
std::unordered_map<std::string, std::size_t> Checkpoint::owners(
    const std::vector<NamedTensors>& states, At at) const {
  std::unordered_map<std::string, std::size_t> all;
  for (std::size_t i = 0; i < states.size(); ++i)
    for (const auto& [name, tensor] : states[i])
      if (all.emplace(head_of(name), i).first->second != i)
        fail<ValueError>(
            at,
            "Checkpoint: two parts have entries like \"{}\": add(\"NAME\", part) gives "
            "those of one a name in front",
            name);
  return all;
}

void Checkpoint::write(const std::string& path, At at) const {
  std::vector<NamedTensors> all = states();
  (void)owners(all, at);
  NamedTensors entries;
  for (NamedTensors& state : all)
    entries.insert(entries.end(), std::move_iterator(state.begin()),
                   std::move_iterator(state.end()));
  data::save(path, entries, {.metadata = {{kFormat, "1"}, {kBuild, build()}}}, at);
}

/// "run.WORD.safetensors" for "run.safetensors".
std::string Checkpoint::path_with(const std::string& word) const {
  const fs::path path = path_;
  return (path.parent_path() / path.stem()).string() + "." + word + path.extension().string();
}

void Checkpoint::save(At at) {
  std::error_code error;
  const fs::path old = fs::canonical(path_, error);  // not a link, which will lead to the new one
  if (kept_ == 1 || error) return write(path_, at);
  SecondName before(old.parent_path() / ("." + old.filename().string() + ".before"));
  fs::create_hard_link(old, before.name, before.error);
  if (before.error)
    fail<IoError>(at, "Checkpoint: cannot keep {}: {}", path_, before.error.message());
  write(path_, at);
  for (int64_t i = kept_ - 1; i > 1; --i)
    rename_if_there(path_with(std::to_string(i - 1)), path_with(std::to_string(i)), at);
  rename_if_there(before.name, path_with("1"), at);
}

bool Checkpoint::keep_best(double metric, Better better, At at) {
  const bool best =
      std::isnan(best_) || (better == Better::lower ? metric < best_ : metric > best_);
  if (std::isnan(metric) || !best) return false;
  const double before = std::exchange(best_, metric);
  try {
    write(path_with("best"), at);
  } catch (...) {
    best_ = before;
    throw;
  }
  return true;
}

Resumed Checkpoint::resume(const ResumeOptions& options, At at) {
  std::error_code error;
  if (fs::symlink_status(path_, error).type() == fs::file_type::not_found) return {};
  std::vector<NamedTensors> found(parts_.size());
  const std::unordered_map<std::string, std::size_t> owner = owners(states(), at);
  SafeTensors file = load(path_, {}, at);
  if (!file.verified || file.metadata.count(kFormat) == 0)
    fail<FormatError>(at, "Checkpoint: {}: byte 8: this is no checkpoint", path_);
  if (file.metadata[kFormat] != "1")
    fail<FormatError>(at, "Checkpoint: {}: byte 8: format {}: this version reads format 1", path_,
                      file.metadata[kFormat]);
  Resumed result{.found = true, .exact = file.metadata[kBuild] == build(), .left_out = {}};
  std::string wrong;
  for (auto& [name, tensor] : file) {
    const auto part = owner.find(head_of(name));
    if (part != owner.end())
      found[part->second].emplace_back(name.substr(parts_[part->second].prefix.size()),
                                       std::move(tensor));
    else if (options.strict) wrong += "\n  " + name + " is unexpected";
    else result.left_out.unexpected.push_back(name);
  }
  file.clear();
  std::vector<Commit> commits;
  for (std::size_t i = 0; i < parts_.size(); ++i) try {
      commits.push_back(
          parts_[i].prepare(std::move(found[i]), options.strict ? nullptr : &result.left_out));
    } catch (const ValueError& e) {
      if (options.strict) wrong += std::string("\n") + e.what();
      else
        for (const auto& [head, part] : owner)
          if (part == i) result.left_out.mismatched.push_back(head + "/");
    }
  if (!wrong.empty()) fail<ValueError>(at, "Checkpoint: {} does not fit this run:{}", path_, wrong);
  if (!result.exact)
    report(
        fmt::format("Checkpoint: {} was saved by another build or on other kernels, so that what "
                    "follows is not bit-exact. There:\n{}Here:\n{}",
                    path_, file.metadata[kBuild], build()));
  // An optimizer knows what the schedulers that follow it have made of its options, so it comes
  // after them.
  for (auto commit = commits.rbegin(); commit != commits.rend(); ++commit) (*commit)();
  return result;
}

}}  // namespace descent::data
