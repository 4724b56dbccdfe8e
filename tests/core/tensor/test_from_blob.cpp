#include <sys/mman.h>
#include <unistd.h>

#include "support.hpp"

using namespace descent;

namespace {

/// Memory of others without anybody who keeps it alive.
std::shared_ptr<void> unowned(void* p) { return {std::shared_ptr<void>(), p}; }

}  // namespace

TEST_CASE("a tensor on memory of others shares it") {
  std::vector<float> numbers{1, 2, 3, 4, 5, 6};
  Tensor x = from_blob(unowned(numbers.data()), {2, 3});
  CHECK(x.shape() == Shape{2, 3});
  CHECK(x.is_contiguous());
  CHECK(x.sum().item() == 21);
  numbers[0] = 11;
  CHECK(x.sum().item() == 31);
  x *= 2;
  CHECK(numbers == std::vector<float>{22, 4, 6, 8, 10, 12});
  x.select(0, 1) *= 0;
  CHECK(numbers == std::vector<float>{22, 4, 6, 0, 0, 0});
  Tensor own = x.clone();
  own *= 2;
  CHECK(own.sum().item() == 64);
  CHECK(numbers[0] == 22);

  std::vector<int64_t> integers{7, 8};
  CHECK(from_blob(unowned(integers.data()), {2}, int64).to_vector<int64_t>() == integers);
  CHECK(from_blob(unowned(integers.data()), {}, int64).item<int64_t>() == 7);
  CHECK(from_blob(unowned(integers.data()), {0, 5}, int64).numel() == 0);
}

TEST_CASE("what takes over a temporary copies memory of others") {
  std::vector<float> numbers{1, 2, 3};
  const auto blob = [&] { return from_blob(unowned(numbers.data()), {3}); };
  Tensor x = zeros({3});
  x.set_data(blob());
  x += 1;
  Tensor leaf = ones({3}).requires_grad_();
  leaf.register_hook([&](const Tensor&) { return blob(); });
  for (int i = 0; i < 2; ++i) leaf.sum().backward();
  CHECK(leaf.grad().to_vector<float>() == std::vector<float>{2, 4, 6});
  CHECK((blob() * 2 + 1).sum().item() == 15);
  CHECK(numbers == std::vector<float>{1, 2, 3});
}

TEST_CASE("memory of others is kept until no tensor needs it") {
  int released = 0;
  const MemoryStats before = memory_stats();
  {
    Tensor part;
    {
      const std::shared_ptr<float[]> memory(new float[4]{1, 2, 3, 4}, [&](const float* p) {
        ++released;
        delete[] p;
      });
      const Tensor x = from_blob({memory, memory.get()}, {4});
      part = x.narrow(0, 1, 2);
      CHECK(memory_stats().live_storages == before.live_storages + 1);
      CHECK(memory_stats().live_bytes == before.live_bytes);
    }
    CHECK(released == 0);
    CHECK(part.to_vector<float>() == std::vector<float>{2, 3});
  }
  CHECK(released == 1);
  CHECK(memory_stats().live_storages == before.live_storages);
}

TEST_CASE("a parameter may be in memory of others") {
  std::vector<double> numbers{1, -2};
  Tensor x = from_blob(unowned(numbers.data()), {2}, float64).requires_grad_();
  (x * x).sum().backward();
  CHECK(x.grad().to_vector<double>() == std::vector<double>{2, -4});
}

TEST_CASE("what is no memory for elements is refused") {
  alignas(8) char bytes[32] = {};
  CHECK(refusal<ValueError>([&] { (void)from_blob(nullptr, {2}); }) == "from_blob: data is null");
  CHECK(refusal<ValueError>([&] { (void)from_blob(unowned(bytes + 4), {2}, float64); }) ==
        "from_blob: data is not aligned for float64: need a multiple of 8 bytes");
  CHECK(refusal<ShapeError>([&] { (void)from_blob(unowned(bytes), {-1}); }) ==
        "from_blob: shape [-1] has a negative size");
}

TEST_CASE("kernels read nothing behind the last element") {
  // The elements end where the next page cannot be read. Cached memory has room behind it.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)), bytes = 8 * page;
  void* p =
      ::mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(p != MAP_FAILED);
  REQUIRE(::mprotect(static_cast<char*>(p) + bytes, page, PROT_NONE) == 0);
  const std::shared_ptr<void> memory(p, [=](void* q) { ::munmap(q, bytes + page); });
  const auto at_end = [&](const Tensor& x) {
    const auto size = static_cast<std::size_t>(x.numel() * itemsize(x.dtype()));
    const Tensor out =
        from_blob({memory, static_cast<char*>(p) + bytes - size}, x.shape(), x.dtype());
    const_cast<Tensor&>(out).copy_(x);
    return out;
  };
  int compared = 0;
  const auto check = [&](const char* what, auto f, const Tensor& x) {
    CAPTURE(what);
    CAPTURE(x.shape());
    const Tensor own = x.clone();
    CHECK(same_bits(f(at_end(x)), f(own)));
    ++compared;
  };
  for (const DType dtype : {float32, float64})
    for (int64_t n = 1; n <= 70; ++n) {
      const Tensor x = rand({n}).to(dtype) + 0.5;
      check(
          "exp", [](const Tensor& t) { return exp(t); }, x);
      check(
          "tanh", [](const Tensor& t) { return tanh(t); }, x);
      check(
          "log", [](const Tensor& t) { return log(t); }, x);
      check(
          "arithmetic", [](const Tensor& t) { return t * t + t / 3 - t; }, x);
      check(
          "sum", [](const Tensor& t) { return t.sum(); }, x);
      check(
          "max", [](const Tensor& t) { return max(t); }, x);
      check(
          "to", [](const Tensor& t) { return t.to(float64).to(float32); }, x);
      check(
          "compare", [](const Tensor& t) { return (t > 1).to(float32); }, x);
      const Tensor m = rand({n, 3}).to(dtype);
      check(
          "rows", [](const Tensor& t) { return t.sum(0); }, m);
      check(
          "columns", [](const Tensor& t) { return t.sum(1); }, m);
      check(
          "softmax", [](const Tensor& t) { return softmax(t, 1); }, m);
      check(
          "transpose", [](const Tensor& t) { return t.t().contiguous(); }, m);
      check(
          "matmul", [](const Tensor& t) { return matmul(t.t(), t); }, m);
      check(
          "matmul of its transpose", [](const Tensor& t) { return matmul(t, t.t()); }, m);
    }
  for (int64_t n = 3; n <= 20; ++n)
    for (const int64_t kernel : {1, 3}) {
      const Tensor w = randn({4, 2, kernel, kernel}), x = randn({1, 2, n, n});
      for (const int64_t stride : {1, 2}) {
        const auto moved = [&](const Tensor& a, const Tensor& b) {
          return conv2d(a, b, {.stride = stride, .padding = 1});
        };
        check(
            "conv2d of x", [&](const Tensor& t) { return moved(t, w); }, x);
        check(
            "conv2d of w", [&](const Tensor& t) { return moved(x, t); }, w);
      }
      check(
          "max_pool2d", [](const Tensor& t) { return max_pool2d(t, 2); }, x);
      check(
          "avg_pool2d", [](const Tensor& t) { return avg_pool2d(t, 2); }, x);
    }
  CHECK(compared == 2 * 70 * 14 + 18 * 2 * 6);
}
