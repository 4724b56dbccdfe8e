#include "descent/core/tensor/state.hpp"

#include <algorithm>
#include <map>

namespace [[gnu::visibility("default")]] descent {

template <class T> static Tensor as_tensor(const Shape& shape, const T* values) {
  const Tensor t = detail::empty("state_dict", shape, dtype_of<T>(), At::unknown());
  std::copy_n(values, t.numel(), t.mutable_data<T>());
  return t;
}

/// A check that a loaded count is in its range.
static auto make_count_check(const std::string& name) {
  return [name](const Tensor& t, At at) {
    if (const auto n = t.item<int64_t>(); n < 0 || n > int64_t{1} << 53)
      fail<ValueError>(at, "load_state_dict: {} is {}: need a count up to 2^53", name, n);
  };
}

template <class T> void StateVisitor::number(std::string name, T& place) {
  const Tensor now = as_tensor({}, &place);
  entries_.push_back(
      {std::move(name), now, now, true, [&place](const Tensor& t) { place = t.item<T>(); }});
}

void StateVisitor::operator()(std::string name, int64_t& count) {
  number(name, count);
  entries_.back().check = make_count_check(name);
}
void StateVisitor::operator()(std::string name, uint64_t& bits) {
  number(std::move(name), reinterpret_cast<int64_t&>(bits));
}
void StateVisitor::operator()(std::string name, double& x) { number(std::move(name), x); }
void StateVisitor::operator()(std::string name, bool& flag) { number(std::move(name), flag); }

void StateVisitor::operator()(std::string name, Tensor& tensor, const Tensor& like) {
  // Whoever trains a parameter has a handle of its own on it.
  const Tensor in_place = tensor.defined() && tensor.requires_grad() ? tensor.detach() : Tensor();
  entries_.push_back(
      {name, tensor.defined() ? tensor : like, like, true, [&tensor, in_place](const Tensor& t) {
         if (in_place.defined()) in_place.copy_(t);
         else tensor = t;
       }});
  if (in_place.defined())
    entries_.back().check = [in_place](const Tensor&, At at) {
      check_not_expanded("load_state_dict", in_place, at);
    };
  if (like.dtype() == int64 && like.dim() == 0) entries_.back().check = make_count_check(name);
}

void StateVisitor::operator()(NamedTensors& tensors) {
  for (auto& [name, tensor] : tensors) (*this)(name, tensor);
}

void StateVisitor::optional(std::string name, Tensor& tensor, const Tensor& like) {
  entries_.push_back(
      {std::move(name), tensor, like, false, [&tensor](const Tensor& t) { tensor = t; }});
}

void StateVisitor::same(std::string name, std::vector<int64_t> numbers, std::string what) {
  const Tensor now = as_tensor({static_cast<int64_t>(numbers.size())}, numbers.data());
  const auto check = [numbers = std::move(numbers), what = std::move(what)](const Tensor& t,
                                                                            At at) {
    if (t.to_vector<int64_t>() != numbers)
      fail<ValueError>(at, "load_state_dict: {} is {} here and {} in the state", what, numbers,
                       t.to_vector<int64_t>());
  };
  entries_.push_back({std::move(name), now, now, true, [](const Tensor&) {}, check});
}

NamedTensors StateVisitor::state_dict() const {
  NamedTensors all;
  for (const Entry& e : entries_)
    if (e.now.defined()) all.emplace_back(e.name, e.now.detach().clone());
  return all;
}

Commit StateVisitor::prepare(NamedTensors state, const std::string& who, At at) {
  std::map<std::string, Tensor> there(state.begin(), state.end());
  NamedTensors wanted;
  std::vector<const Entry*> places;
  for (const Entry& e : entries_)
    if (const auto found = there.find(e.name); e.always || found != there.end()) {
      wanted.emplace_back(e.name, e.like.defined() ? e.like : found->second);
      places.push_back(&e);
    }
  std::vector<Tensor> values = match_state(wanted, state, who, nullptr, at);
  there.clear(), wanted.clear(), state.clear();  // a tensor that only `values` has needs no copy
  std::vector<std::function<void()>> puts;
  for (Entry& e : entries_)
    if (!e.always) puts.push_back([put = e.put] { put({}); });
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!Peek::unique(values[i]) || values[i].requires_grad())
      values[i] = values[i].detach().clone();
    if (places[i]->check) places[i]->check(values[i], at);
    puts.push_back([put = places[i]->put, value = values[i]] { put(value); });
  }
  return [puts = std::move(puts)] {
    for (const auto& put : puts) put();
  };
}

}  // namespace descent
