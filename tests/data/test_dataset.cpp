#include <cmath>
#include <doctest/doctest.h>
#include <memory>
#include <numeric>
#include <set>

#include "support.hpp"

using namespace descent;

namespace {

using Ints = std::vector<int64_t>;

/// n examples: x is the example's number, y its square.
data::TensorDataset numbered(int64_t n) {
  const Tensor x = arange(n).to(float64).reshape({n, 1});
  return {x, square(x.squeeze(1))};
}

/// The x of each batch of one epoch.
template <class Loader> std::vector<Values> epoch(Loader& loader) {
  std::vector<Values> batches;
  for (auto [x, y] : loader) {
    batches.push_back(values(x));
    CHECK(values(y) == values(square(x)));
  }
  return batches;
}

/// A user's dataset, which has only size() and get(i).
struct Halves {
  int64_t size() const { return 5; }
  data::Example get(int64_t i) const {
    return {tensor({static_cast<double>(i) / 2, 1.}), tensor(i)};
  }
};

/// A loader's state dict.
NamedTensors place(const data::DataLoader& loader, int64_t epoch, int64_t batch) {
  NamedTensors state = loader.state_dict();
  state[0].second = tensor(epoch);
  state[1].second = tensor(batch);
  return state;
}

}  // namespace

TEST_CASE("without shuffling, batches come in order, the last one smaller or left out") {
  data::DataLoader loader(numbered(5), {.batch_size = 2});
  CHECK(loader.size() == 3);
  CHECK(epoch(loader) == std::vector<Values>{{0, 1}, {2, 3}, {4}});
  data::DataLoader dropped(numbered(5), {.batch_size = 2, .drop_last = true});
  CHECK(epoch(dropped) == std::vector<Values>{{0, 1}, {2, 3}});
  data::DataLoader one(numbered(3));
  CHECK(epoch(one) == std::vector<Values>{{0}, {1}, {2}});
  data::DataLoader full(numbered(3), {.batch_size = data::kFullBatch});
  CHECK(epoch(full) == std::vector<Values>{{0, 1, 2}});
  data::DataLoader larger(numbered(3), {.batch_size = 64});
  CHECK(epoch(larger).size() == 1);
}

TEST_CASE("the order of an epoch follows from the seed and its number alone") {
  const data::LoaderOptions options{.batch_size = 10, .shuffle = true, .seed = 3};
  data::DataLoader a(numbered(100), options), b(numbered(100), options);
  const auto first = epoch(a), second = epoch(a);
  CHECK(first != second);
  Values all;
  for (const Values& batch : second) all.insert(all.end(), batch.begin(), batch.end());
  CHECK(std::set<double>(all.begin(), all.end()).size() == 100);
  b.set_epoch(1);
  manual_seed(7);
  NumThreads threads(1);
  CHECK(epoch(b) == second);
  set_num_threads(3);
  b.set_epoch(0);
  CHECK(epoch(b) == first);
  data::DataLoader other(numbered(100), {.batch_size = 10, .shuffle = true, .seed = 4});
  CHECK(epoch(other) != first);
}

TEST_CASE("a loader goes on in the middle of an epoch where its state says") {
  const data::LoaderOptions options{.batch_size = 3, .shuffle = true, .seed = 3};
  data::DataLoader whole(numbered(10), options), cut(numbered(10), options);
  const auto expected = epoch(whole);
  NamedTensors state;
  for (auto [x, y] : cut) {
    if (values(x) != expected[1]) continue;
    state = cut.state_dict();
    break;
  }
  data::DataLoader resumed(numbered(10), options);
  resumed.load_state_dict(state);
  CHECK(epoch(resumed) == std::vector<Values>{expected[2], expected[3]});
  CHECK(epoch(resumed) == epoch(whole));  // the next one
  CHECK(cut.state().epoch == 0);
  CHECK(cut.state().batch == 2);
  data::DataLoader second(numbered(10), options);
  second.set_epoch(1);
  CHECK(epoch(cut) == epoch(second));  // an epoch that was left by break is over
}

TEST_CASE("a state that is set inside a loop leaves nothing behind") {
  data::DataLoader loader(numbered(9), {.batch_size = 3});
  for (auto [x, y] : loader) {
    if (values(x)[0] == 3) break;
    loader.load_state_dict(place(loader, 7, 2));
  }
  CHECK(epoch(loader).size() == 3);
}

TEST_CASE("behind the last batch a loop goes on with the end of its epoch") {
  data::DataLoader loader(numbered(4), {.batch_size = 2}), resumed(numbered(4), {.batch_size = 2});
  NamedTensors last;
  for (auto [x, y] : loader) last = loader.state_dict();
  CHECK(loader.state().epoch == 1);
  CHECK(loader.state().batch == 0);
  resumed.load_state_dict(last);
  CHECK(resumed.state().epoch == 0);
  CHECK(resumed.state().batch == 2);
  CHECK(epoch(resumed).empty());
  CHECK(resumed.state().epoch == 1);
  CHECK(epoch(resumed).size() == 2);
}

TEST_CASE("batches in order are views, shuffled ones are copies") {
  const data::TensorDataset dataset = numbered(4);
  for (bool shuffle : {false, true}) {
    data::DataLoader loader(dataset, {.batch_size = 4, .shuffle = shuffle});
    for (auto [x, y] : loader) CHECK((x.data<double>() == dataset.x().data<double>()) != shuffle);
  }
}

TEST_CASE("an error in a batch names the line that made the loader") {
  const data::Subset part(numbered(3), tensor({0, 3}));
  CHECK(refusal<IndexError>([&] { part.get(-1); }) ==
        "Subset: example -1: need at least 0 and below 2");
  data::DataLoader loader(part, {.batch_size = 2});
  const std::string line = std::to_string(__LINE__ - 1);
  CHECK(full_refusal<IndexError>([&] { epoch(loader); }) ==
        "index_select: index[1] is 3, but dim 0 of [3, 1] allows 0..2 (test_dataset.cpp:" + line +
            ")");
}

TEST_CASE("a dataset that throws leaves the loader at the batch that failed") {
  struct Flaky {
    std::shared_ptr<bool> broken;
    int64_t size() const { return 10; }
    data::Example get(int64_t i) const {
      if (*broken && i == 5) throw std::runtime_error("the disk is gone");
      return {tensor({static_cast<double>(i)}), tensor(i)};
    }
  };
  const auto broken = std::make_shared<bool>(false);
  const data::LoaderOptions options{.batch_size = 2, .shuffle = true, .seed = 3};
  data::DataLoader whole(Flaky{broken}, options), loader(Flaky{broken}, options);
  std::vector<Values> want, second, got, next;
  auto collect = [](data::DataLoader& from, std::vector<Values>& into) {
    for (const data::Batch& batch : from) into.push_back(values(batch.x));
  };
  collect(whole, want);
  collect(whole, second);
  *broken = true;
  CHECK_THROWS_WITH_AS(collect(loader, got), "the disk is gone", std::runtime_error);
  CHECK(loader.state().epoch == 0);
  CHECK(loader.state().batch == static_cast<int64_t>(got.size()));
  *broken = false;
  loader.load_state_dict(loader.state_dict());  // without it the next loop is the next epoch
  collect(loader, got);
  CHECK(got == want);
  collect(loader, next);
  CHECK(next == second);
}

TEST_CASE("a dataset that makes batches of another size is refused") {
  struct Wrong {
    int64_t x, y;
    int64_t size() const { return 4; }
    data::Example get(int64_t i) const { return {tensor(i), tensor(i)}; }
    data::Batch batch(const Tensor&) const { return {zeros({x, 3}), zeros({y})}; }
  };
  for (const Wrong& wrong : {Wrong{1, 2}, Wrong{2, 3}}) {
    data::DataLoader loader(wrong, {.batch_size = 2});
    CHECK(refusal<ShapeError>([&] { loader.begin().operator*(); }) ==
          "DataLoader: a batch of 2 has a tensor " +
              (wrong.x != 2 ? str(Shape{wrong.x, 3}) : str(Shape{wrong.y})) +
              ": need that first axis");
    CHECK(loader.state().batch == 0);
  }
}

TEST_CASE("a user's dataset is put together example by example") {
  data::DataLoader loader(Halves{}, {.batch_size = 4});
  Ints sizes;
  for (const data::Batch& batch : loader) {
    sizes.push_back(batch.size());
    CHECK(batch.x.shape() == Shape{batch.size(), 2});
    CHECK(batch.y.dtype() == int64);
  }
  CHECK(sizes == Ints{4, 1});
  auto doubled = data::map(Halves{}, [](data::Example e) { return data::Example{e.x * 2.0, e.y}; });
  CHECK(values(doubled.get(3).x) == Values{3, 2});
  CHECK(doubled.size() == 5);
}

TEST_CASE("a map works its examples out when they are asked for, and every time") {
  int calls = 0;
  const auto counted = data::map(Halves{}, [&calls](data::Example e) {
    ++calls;
    return e;
  });
  data::DataLoader loader(data::Subset(counted, tensor({4, 0, 2})), {.batch_size = 2});
  CHECK(calls == 0);
  for (auto [x, y] : loader) {
    CHECK(y.to_vector<int64_t>() == Ints{4, 0});
    break;
  }
  CHECK(calls == 2);
  counted.get(0);
  CHECK(calls == 3);
}

TEST_CASE("a split deals out every example once, by the seed") {
  const auto [train, test] = data::split(numbered(10), {0.75, 0.25}, 5);
  CHECK(train.size() == 8);
  CHECK(test.size() == 2);
  Ints all = train.index().to_vector<int64_t>();
  for (int64_t i : test.index().to_vector<int64_t>()) all.push_back(i);
  CHECK(std::set<int64_t>(all.begin(), all.end()).size() == 10);
  CHECK(test.get(1).x.item<int64_t>() == all[9]);
  CHECK(test.batch(tensor({1, 0})).x.to_vector<int64_t>() == Ints{all[9], all[8]});
  const auto [again, rest] = data::split(numbered(10), {8, 2}, 5);
  CHECK(again.index().to_vector<int64_t>() == train.index().to_vector<int64_t>());
  const auto [other, left] = data::split(numbered(10), {8, 2}, 6);
  CHECK(other.index().to_vector<int64_t>() != train.index().to_vector<int64_t>());
}

TEST_CASE("sizes and fractions are dealt by lists, arrays and vectors alike") {
  auto dealt = [](const std::vector<Tensor>& parts) {
    std::vector<int64_t> all;
    for (const Tensor& part : parts) {
      all.push_back(part.size(0));
      for (int64_t i : part.to_vector<int64_t>()) all.push_back(i);
    }
    return all;
  };
  const std::vector<int64_t> want = dealt(data::deal(10, std::vector<int64_t>{8, 2}, 1));
  CHECK(want.size() == 12);
  CHECK(want[0] == 8);
  CHECK(dealt(data::deal(10, {8, 2}, 1)) == want);
  CHECK(dealt(data::deal(10, {0.8, 0.2}, 1)) == want);
  CHECK(dealt(data::deal(10, Values{0.8, 0.2}, 1)) == want);
  CHECK(dealt(data::deal(10, {8, 2})) == dealt(data::deal(10, {0.8, 0.2}, 0)));
}

TEST_CASE("standardised columns have mean 0 and deviation 1, and come back") {
  const Tensor x = tensor({{1., 5.}, {2., 5.}, {6., 5.}}, float64);
  const data::Standardizer s(x);
  CHECK(values(s.std)[1] == 1);  // of a constant column
  const Tensor z = s(x);
  CHECK(abs(z.mean(0)).max().item() < 1e-15);
  CHECK(std::abs(var(z.select(1, 0), 0, {.correction = 0}).item() - 1) < 1e-14);
  CHECK(abs(s.inverse(z) - x).max().item() < 1e-14);
}

TEST_CASE("fractions of whole parts give exactly those parts") {
  const data::TensorDataset all(zeros({100}), zeros({100}));
  auto sizes = [&all](auto... fraction) {
    Ints result;
    for (const auto& part : data::split(all, {fraction...})) result.push_back(part.size());
    return result;
  };
  for (int k = 0; k <= 100; ++k) {
    CAPTURE(k);
    CHECK(sizes(k / 100., (100 - k) / 100.) == Ints{k, 100 - k});
    CHECK(sizes(k / 100., 1 - k / 100.) == Ints{k, 100 - k});
    CHECK(sizes(1 - k / 100., k / 100.) == Ints{100 - k, k});
  }
  CHECK(sizes(0.7, 0.2, 0.1) == Ints{70, 20, 10});
  CHECK(sizes(0.1 + 0.2, 0.7) == Ints{30, 70});
  CHECK(sizes(1 / 3., 1 / 3., 1 / 3.) == Ints{34, 33, 33});
  CHECK(sizes(0.3333333, 0.3333333, 0.3333333) == Ints{34, 33, 33});
  CHECK(sizes(0.5000002, 0.5000003) == Ints{50, 50});
}

TEST_CASE("columns of any size are standardised") {
  for (double size : {1e-300, 1e-170, 1e-20, 1., 1e20, 1e170, 1e300}) {
    CAPTURE(size);
    const Tensor x = tensor({{1., 7.}, {2., 7.}, {6., 7.}}, float64) * size;
    const data::Standardizer s(x);
    const Tensor z = s(x);
    CHECK(abs(z.mean(0)).max().item() < 1e-15);
    CHECK(std::abs(var(z.select(1, 0), 0, {.correction = 0}).item() - 1) < 1e-14);
    CHECK(abs(z.select(1, 1)).max().item() == 0);
    CHECK(values(s.std)[1] == 1);
    CHECK(abs(s.inverse(z) - x).max().item() <= 1e-14 * size);
  }
  for (DType dtype : {float32, float64}) {  // a mean that the dtype does not hold
    const double big = dtype == float32 ? 0x1p24 : 0x1p53;
    const Tensor x = tensor({big, big + 2}, float64).to(dtype).unsqueeze(1);
    const data::Standardizer s(x);
    CHECK(values(s(x)) == Values{-1, 1});
    CHECK(values(s.inverse(s(x))) == Values{big, big + 2});
  }
  const Tensor smallest = tensor({0., 1.4e-45}).unsqueeze(1);
  CHECK(all(isfinite(data::Standardizer(smallest)(smallest))).item<bool>());
}

TEST_CASE("what cannot be loaded is refused") {
  CHECK(refusal<ValueError>([] { data::DataLoader(numbered(3), {.batch_size = -1}); }) ==
        "DataLoader: batch_size -1: need at least 1 or kFullBatch");
  CHECK(refusal<ValueError>([] { data::DataLoader(numbered(0)); }) ==
        "DataLoader: the dataset has no examples");
  CHECK(refusal<ValueError>([] {
          data::DataLoader(numbered(3), {.batch_size = 4, .drop_last = true});
        }) == "DataLoader: batch_size 4 with drop_last leaves nothing of 3 examples");
  CHECK(refusal<ShapeError>([] {
          data::TensorDataset(zeros({3, 2}), zeros({2}));
        }) == "TensorDataset: x [3, 2] and y [2]: need a first axis of the same size");
  CHECK(refusal<IndexError>([] { numbered(3).get(3); }) ==
        "TensorDataset: example 3: need at least 0 and below 3");
  CHECK(refusal<ValueError>([] {
          data::split(numbered(3), {1, 1});
        }) == "split: sizes [1, 1] for 3 examples: need that sum");
  CHECK(refusal<ValueError>([] {
          data::split(numbered(3), {0.5, 0.4});
        }) == "split: fractions [0.5, 0.4]: need at least 0 each, and a sum of 1");
  CHECK(refusal<ValueError>([] {
          data::DataLoader loader(numbered(3));
          loader.load_state_dict(place(loader, 0, 4));
        }) == "DataLoader: epoch 0, batch 4: need epoch 0 to 4294967294 and batch 0 to 3");
  CHECK(refusal<ValueError>([] {
          data::DataLoader loader(numbered(3));
          loader.set_epoch(UINT32_MAX);
        }) == "DataLoader: epoch 4294967295, batch 0: need epoch 0 to 4294967294 and batch 0 to 3");
  struct Negative : Halves {
    int64_t size() const { return -1; }
  };
  CHECK(refusal<ValueError>([] { data::DataLoader(Negative{}); }) ==
        "DataLoader: the dataset has no examples");
  CHECK(refusal<ValueError>([&] { data::batch(Halves{}, empty({0}, int64)); }) ==
        "stack: the list of tensors is empty");
  CHECK(refusal<NumericError>([&] {
          data::Standardizer(tensor({{1.F, NAN}}).t());
        }) == "Standardizer: x [2, 1] has NaN, infinite or too large numbers");
  CHECK(refusal<ValueError>([&] {
          data::Standardizer(zeros({0, 2}));
        }) == "Standardizer: x [0, 2] has no rows to measure");
  CHECK(refusal<DtypeError>([&] { data::Standardizer(arange(3)); }) ==
        "Standardizer: x is int64: need a floating dtype");
}
