#include <cmath>
#include <doctest/doctest.h>
#include <set>

#include "support.hpp"

using namespace descent;

namespace {

/// Example i has x [1, 2, 2], all i, and y i.
struct Flat {
  int64_t examples = 6;
  int64_t size() const { return examples; }
  data::Example get(int64_t i) const {
    return {full({1, 2, 2}, static_cast<double>(i)), tensor(i)};
  }
};

/// A dataset that has only get(i, epoch).
struct Aging {
  int64_t size() const { return 6; }
  data::Example get(int64_t i, int64_t epoch) const { return {tensor({i}), tensor({epoch})}; }
};

/// One that has batch(index, epoch) as well, which says so.
struct AgingInBatches : Aging {
  data::Batch batch(const Tensor& index, int64_t epoch) const {
    return {index.unsqueeze(1), full({index.size(0), 1}, static_cast<double>(-epoch), int64)};
  }
};

/// One whose batch does not know the epoch: it would be wrong.
struct AgingBesides : Aging {
  data::Batch batch(const Tensor& index) const { return {index, index}; }
};

/// A second parameter that is no epoch.
struct WithFlag {
  int64_t size() const { return 3; }
  data::Example get(int64_t i, bool flag = false) const { return {tensor({i}), tensor(flag)}; }
};

/// An augmentation that notes the numbers that it draws.
data::Example draw(data::Example e, Generator& g) { return {randn({3}, float64, g), e.y}; }

/// x after one call with this generator.
Tensor applied(const data::Augmentation& f, const Tensor& x, Generator& generator) {
  return f({x, tensor(0)}, generator).x;
}
Tensor applied(const data::Augmentation& f, const Tensor& x, uint64_t seed = 0) {
  Generator generator(seed);
  return applied(f, x, generator);
}

}  // namespace

TEST_CASE("a loader tells its dataset the epoch, through maps, subsets and splits") {
  const auto check = [](const auto& dataset, int64_t sign) {
    data::DataLoader loader(dataset, {.batch_size = 2});
    for (int64_t k = 0; k < 3; ++k)
      for (auto [x, y] : loader) CHECK(ints(y) == Ints{sign * k, sign * k});
    loader.set_epoch(40);
    for (auto [x, y] : loader) CHECK(ints(y) == Ints{40 * sign, 40 * sign});
  };
  const auto same = [](data::Example e) { return e; };
  check(Aging(), 1);
  check(AgingBesides(), 1);
  check(AgingInBatches(), -1);
  check(data::map(Aging(), same), 1);
  check(data::Subset(Aging(), tensor({3, 1, 4, 0})), 1);
  check(data::Subset(AgingInBatches(), tensor({3, 1, 4, 0})), -1);
  check(data::split(Aging(), {4, 2})[0], 1);
  check(data::map(data::Subset(data::map(AgingInBatches(), same), tensor({1, 2})), same), 1);
  CHECK(ints(data::get_example(Aging(), 2, 7).y) == Ints{7});
  CHECK(ints(data::get_example(Aging(), 2).y) == Ints{0});
  CHECK(values(data::get_example(Flat(), 2, 7).x) == Values{2, 2, 2, 2});
  CHECK(ints(data::batch(Aging(), tensor({2, 3}), 9).x) == Ints{2, 3});
}

TEST_CASE("a second parameter of another type is no epoch") {
  CHECK_FALSE(data::ByEpoch<WithFlag>);
  CHECK_FALSE(data::ByEpoch<data::TensorDataset>);
  CHECK(data::ByEpoch<data::Subset<WithFlag>>);
  data::DataLoader loader(WithFlag{}, {.batch_size = 3});
  for (int k = 0; k < 2; ++k)
    for (auto [x, y] : loader) CHECK(bools(y) == Bools{false, false, false});
}

TEST_CASE("the numbers of an augmentation follow from the seed, the epoch and the example alone") {
  const auto dataset = data::augment(Flat(), draw, 11);
  const auto numbers = [&](int64_t i, int64_t epoch) {
    Generator g = data::example_generator(11, epoch, i);
    return randn({3}, float64, g);
  };
  std::set<Values> all;
  for (int64_t epoch = 0; epoch < 4; ++epoch)
    for (int64_t i = 0; i < 6; ++i) {
      CHECK(same_bits(dataset.get(i, epoch).x, numbers(i, epoch)));
      all.insert(values(numbers(i, epoch)));
    }
  CHECK(all.size() == 24);
  CHECK_FALSE(same_bits(data::augment(Flat(), draw, 12).get(0, 0).x, numbers(0, 0)));

  const NumThreads restored(1);
  for (const int workers : {0, 2})
    for (const int64_t size : {1, 4})
      for (const int threads : {1, 3}) {
        set_num_threads(threads);
        data::DataLoader loader(dataset, {.batch_size = size, .shuffle = true, .workers = workers});
        for (int64_t epoch = 0; epoch < 2; ++epoch)
          for (auto [x, y] : loader)
            for (int64_t k = 0; k < x.size(0); ++k)
              CHECK(same_bits(x.select(0, k), numbers(y.select(0, k).item<int64_t>(), epoch)));
      }
}

TEST_CASE("the streams of examples and epochs have known bits and share no block") {
  const auto state = [](uint64_t seed, int64_t epoch, int64_t i) {
    return data::example_generator(seed, epoch, i).state();
  };
  Generator last;
  last.set_state({3, ~uint64_t{7}});
  CHECK(state(3, 7, 5) == Generator::State{last.next(), uint64_t{5} << 32});
  CHECK(state(3, 7, 5).seed == state(3, 7, 6).seed);
  std::set<uint64_t> seeds;
  for (int64_t epoch = 0; epoch < 1000; ++epoch)
    for (uint64_t seed = 0; seed < 10; ++seed) seeds.insert(state(seed, epoch, 0).seed);
  CHECK(seeds.size() == 10'000);
  for (const auto& [epoch, i] : {std::pair{int64_t{-1}, int64_t{0}},
                                 {0, -1},
                                 {int64_t{1} << 32, 0},
                                 {0, int64_t{1} << 32}}) {
    const int64_t e = epoch, example = i;
    CHECK(refusal<IndexError>([&] { data::example_generator(0, e, example); }) ==
          "example_generator: epoch " + std::to_string(e) + ", example " + std::to_string(example) +
              ": need 0 to 2^32 - 1");
  }
}

TEST_CASE("normalize gives channels another mean and deviation") {
  const Tensor x = tensor({{{1., 2.}}, {{3., 5.}}});
  const auto f = data::normalize({1, 2}, {2, 0.5});
  const Values want{0, 0.5, 2, 6};
  CHECK(values(f({x, tensor(0)}).x) == want);
  CHECK(f({x.to(float64), tensor(0)}).x.dtype() == float64);
  const auto flat = data::map(Flat(), data::normalize({1}, {2}));
  CHECK(values(flat.get(3).x) == Values{1, 1, 1, 1});
}

TEST_CASE("a crop is a window of the padded image, and every window comes up") {
  const Tensor x = arange(12).to(float32).reshape({1, 3, 4});
  Tensor padded = zeros({1, 7, 8});
  padded.narrow(1, 2, 3).narrow(2, 2, 4).copy_(x);
  std::set<Values> windows, crops;
  for (int64_t top = 0; top < 4; ++top)
    for (int64_t left = 0; left < 5; ++left)
      windows.insert(values(padded.narrow(1, top, 4).narrow(2, left, 4)));
  const auto f = data::random_crop(4, 2);
  for (uint64_t seed = 0; seed < 400; ++seed) crops.insert(values(applied(f, x, seed)));
  CHECK(crops == windows);
  CHECK(applied(f, x).shape() == Shape{1, 4, 4});
  std::set<Values> inner;
  for (uint64_t seed = 0; seed < 100; ++seed)
    inner.insert(values(applied(data::random_crop(3), x, seed)));
  CHECK(inner.size() == 2);
  CHECK(applied(data::random_crop(2), ones({3, 2, 2}, float64)).dtype() == float64);
  CHECK(values(x) == values(arange(12)));  // it is as it was
}

TEST_CASE("a flip exchanges left and right as often as it should") {
  const Tensor x = tensor({{{1., 2., 3.}, {4., 5., 6.}}});
  const Values flipped{3, 2, 1, 6, 5, 4};
  CHECK(values(applied(data::random_horizontal_flip(1), x)) == flipped);
  CHECK(values(applied(data::random_horizontal_flip(0), x)) == values(x));
  int flips = 0;
  Generator g(1);
  for (int i = 0; i < 2000; ++i)
    flips += values(applied(data::random_horizontal_flip(0.25), x, g)) == flipped;
  CHECK(flips > 420);  // 500 +- 4 deviations
  CHECK(flips < 580);
}

TEST_CASE("noise has the deviation that was asked for") {
  const Tensor x = full({3, 64, 64}, 0.5);
  const Tensor off = applied(data::gaussian_noise(0.1), x) - x;
  CHECK(std::abs(off.mean().item()) < 0.005);
  CHECK(std::abs(norm(off).item() / std::sqrt(3. * 64 * 64) - 0.1) < 0.004);
  CHECK(same_bits(applied(data::gaussian_noise(0), x), x));
}

TEST_CASE("functions around one another or in one function follow each other") {
  const Tensor x = noise({3, 8, 8}, 2);
  const auto chain = [crop = data::random_crop(6, 1), scale = data::normalize({0, 0, 0}, {2, 2, 2}),
                      noisy = data::gaussian_noise(0.5)](data::Example e, Generator& g) {
    return noisy(scale(crop(e, g)), g);
  };
  Generator g(4);
  const Tensor crop = applied(data::random_crop(6, 1), x, g);
  const Tensor want = applied(data::gaussian_noise(0.5), crop / 2.0, g);
  CHECK(same_bits(applied(chain, x, 4), want));
  const auto dataset = data::augment(data::augment(Flat(), data::random_crop(2, 1), 1),
                                     data::random_horizontal_flip(), 2);
  CHECK(dataset.get(2).x.shape() == Shape{1, 2, 2});
}

TEST_CASE("images and options that do not fit are refused, and name the line of the function") {
  const auto refused = [](auto make) { return refusal<ValueError>([&] { make(); }); };
  CHECK(refused([] { data::normalize({}, {}); }) ==
        "normalize: mean [], std []: need as many, finite, std above 0");
  CHECK(refused([] {
          data::normalize({0}, {1, 2});
        }) == "normalize: mean [0], std [1, 2]: need as many, finite, std above 0");
  for (const double bad : {0., -1., kInf, kNan})
    CHECK(refused([&] { data::normalize({0}, {bad}); }) != kNothingThrown);
  CHECK(refused([&] { data::normalize({kNan}, {1}); }) != kNothingThrown);
  CHECK(refused([] { data::random_crop(0); }) ==
        "random_crop: size 0, padding 0: need at least 1 and 0");
  CHECK(refused([] { data::random_crop(3, -1); }) ==
        "random_crop: size 3, padding -1: need at least 1 and 0");
  CHECK(refused([] { data::random_horizontal_flip(1.5); }) ==
        "random_horizontal_flip: p 1.5: need 0 to 1");
  CHECK(refused([] { data::random_horizontal_flip(kNan); }) != kNothingThrown);
  CHECK(refused([] { data::gaussian_noise(-1); }) ==
        "gaussian_noise: std -1: need a finite number of at least 0");

  const auto shape = [](const data::Augmentation& f, const Shape& x) {
    return refusal<ShapeError>([&] { applied(f, zeros(x)); });
  };
  const auto unnormal = [](const data::Transform& f, const Tensor& x) {
    return refusal<ShapeError>([&] { f({x, tensor(0)}); });
  };
  CHECK(unnormal(data::normalize({0, 0}, {1, 1}), zeros({3, 1, 1})) ==
        "normalize: x [3, 1, 1]: need an image [2, H, W]");
  CHECK(unnormal(data::normalize({0}, {1}), zeros({4, 4})) ==
        "normalize: x [4, 4]: need an image [1, H, W]");
  CHECK(shape(data::random_crop(5, 1), {3, 4, 2}) ==
        "random_crop: x [3, 4, 2] with padding 1: need at least size 5");
  CHECK(shape(data::random_horizontal_flip(), {4}) ==
        "random_horizontal_flip: x [4]: need an image [C, H, W]");
  CHECK(shape(data::gaussian_noise(1), {}) == "gaussian_noise: x []: need an image [C, H, W]");
  CHECK(refusal<ShapeError>([] { applied(data::random_crop(1), Tensor()); }) ==
        "random_crop: x undefined: need an image [C, H, W]");
  CHECK(refusal<DtypeError>([] {
          data::normalize({0}, {1})({arange(1).reshape({1, 1, 1}), tensor(0)});
        }) == "normalize: x is int64: need a floating dtype");
  CHECK_THROWS_AS(applied(data::gaussian_noise(1), arange(1).reshape({1, 1, 1})), DtypeError);
  const auto f = data::random_crop(5);
  const std::string line = std::to_string(__LINE__ - 1);
  CHECK(full_refusal<ShapeError>([&] {
          applied(f, zeros({1, 4, 4}));
        }).ends_with("(test_transforms.cpp:" + line + ")"));
}
