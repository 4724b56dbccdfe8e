#pragma once
/// @file
/// A training run in one file, from which it goes on with the same bits.

#include "descent/core/tensor/state.hpp"
#include "descent/data/formats/safetensors.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Which metric `keep_best` takes for the better one.
enum class Better { lower, higher };

/// What `resume` accepts.
struct ResumeOptions {
  /// Whether the file must have all that the run has, and nothing else. If not, what does not fit
  /// stays as it was: single tensors of a model, and all of any other part.
  bool strict = true;
};

/// What `resume` has done.
struct Resumed {
  bool found = false;         ///< whether there was a file; if not, nothing has changed
  bool exact = true;          ///< whether the file was saved by the same build on the same kernels
  IncompatibleKeys left_out;  ///< what was not loaded, if `resume` was not strict
  /// Whether there was a file.
  explicit operator bool() const { return found; }
};

/// Everything in a training run that changes, as one safetensors file:
///
///     data::Checkpoint run("run.safetensors", model, opt, schedule, loader);
///     run.add("epoch", epoch);
///     run.resume();  // does nothing if there is no file yet
///     for (; epoch < epochs; ++epoch) {
///       for (auto [x, y] : loader) { ...; opt.step(); if (++n % 50 == 0) run.save(); }
///       schedule.step();
///     }
///
/// A part is anything with `state_dict` and `prepare_load`, or with a `visit` (see StateVisitor): a
/// model, an optimizer and what is around it, a schedule, an average, a loader, a generator. The
/// default generator is always one. Parts must outlive this object. A model's tensors have their
/// own names in the file, so that PyTorch loads them too.
///
/// If all that changes is there, a run that was stopped after any `save` and resumed ends with the
/// same bits as one that was not, with any number of threads. The file also says which build, which
/// vector instructions and which BLAS kernels the run had; if they differ, `resume` reports it.
class Checkpoint : Pinned {
 public:
  /// Names the file and the parts. Nothing is read or written.
  template <class... Parts>
  explicit Checkpoint(std::string path, Parts&... parts) : Checkpoint(std::move(path), 0) {
    (add_part("", parts), ...);
  }

  /// Adds a part whose entries are called "NAME/...", as the second model or loader of a run needs
  /// it; or a variable (a count from 0 to 2^53, a double, a flag, a tensor), which is called
  /// "Checkpoint/NAME". ValueError if the name is empty, has a "/" or is taken.
  template <class T> void add(const std::string& name, T& object, At at = At::here()) {
    check_name(name, at);
    if constexpr (requires(StateVisitor & v) { v(name, object); })
      values_.all.push_back([name, &object](StateVisitor& v) { v("Checkpoint/" + name, object); });
    else add_part(name + "/", object);
  }

  /// How many files `save` keeps: the last one, and those before it as "run.1.safetensors",
  /// "run.2.safetensors" and so on. At first 1. ValueError unless n is 1 to 1000.
  void keep_last(int64_t n, At at = At::here());

  /// Writes the file. The file before stays as it is until the new one is complete, whatever
  /// happens. IoError if it cannot be written; ValueError if two parts have entries of one name.
  void save(At at = At::here());
  /// If `metric` is better than any before, also writes "run.best.safetensors" and returns true. A
  /// NaN is never better. The best metric is saved, too.
  bool keep_best(double metric, Better better = Better::lower, At at = At::here());
  /// Loads the file into all parts, or does nothing if there is none. ValueError that lists all
  /// that does not fit; FormatError if the file is damaged, is no checkpoint or has a newer format;
  /// IoError if it cannot be read. After an error nothing has changed.
  Resumed resume(const ResumeOptions& options = {}, At at = At::here());

 private:
  struct Part {
    std::string prefix;  // of its entries in the file; empty if it has names of its own
    const void* object;
    std::function<NamedTensors()> save;
    std::function<Commit(NamedTensors, IncompatibleKeys*)> prepare;
  };
  struct Values {
    std::vector<std::function<void(StateVisitor&)>> all;
    template <class V> void visit(V& v) {
      for (const auto& value : all) value(v);
    }
  };

  Checkpoint(std::string path, int);
  void check_name(const std::string& name, At at);
  template <class T> void add_part(const std::string& prefix, T& part) {
    for (const Part& p : parts_)
      if (p.object == &part) return;
    parts_.push_back({prefix, &part,
                      [&part] {
                        if constexpr (requires { part.state_dict(); }) return part.state_dict();
                        else return saved_state(part);
                      },
                      [&part](NamedTensors state, IncompatibleKeys* left_out) {
                        const At none = At::unknown();
                        if constexpr (requires { part.prepare_load(state, left_out, none); })
                          return part.prepare_load(state, left_out, none);
                        else if constexpr (requires { part.prepare_load(std::move(state), none); })
                          return part.prepare_load(std::move(state), none);
                        else return prepare_state(part, std::move(state), "this run", none);
                      }});
  }
  [[nodiscard]] std::vector<NamedTensors> states() const;
  [[nodiscard]] std::unordered_map<std::string, std::size_t> owners(
      const std::vector<NamedTensors>& states, At at) const;
  void write(const std::string& path, At at) const;
  [[nodiscard]] std::string path_with(const std::string& word) const;

  std::string path_;
  int64_t kept_ = 1;
  double best_;
  Values values_;
  std::vector<std::string> names_;  // that `add` has been given
  std::vector<Part> parts_;
};

}}  // namespace descent::data

namespace [[gnu::visibility("default")]] descent {
using data::Checkpoint;
}  // namespace descent
