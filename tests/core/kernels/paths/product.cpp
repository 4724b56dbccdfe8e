#include "paths.hpp"

namespace paths {
namespace {

/// What is multiplied: how the operands' axes are, of `batch` matrices [m, k] and [k, n].
enum Form : int64_t {
  matrices,          // [m, k] [k, n]
  shared_right,      // [batch, m, k] [k, n]
  shared_left,       // [m, k] [batch, k, n]
  pairs,             // [batch, m, k] [batch, k, n]
  broadcasts,        // [batch, 1, m, k] [2, k, n]
  row,               // [k] [k, n]
  column,            // [m, k] [k]
  by_linear,         // x [batch, m, k], weight [n, k]
  by_linear_biased,  // and a bias [n]
  forms
};

struct Product {
  explicit Product(const Case& c)
      : form(c["form"]), batch(c["batch"]), m(c["m"]), n(c["n"]), k(c["k"]) {
    if (form == row) m = 1;
    if (form == column) n = 1;
  }
  bool is_linear() const { return form == by_linear || form == by_linear_biased; }
  Shape a() const {
    switch (form) {
      case matrices:
      case shared_left:
      case column: return {m, k};
      case row: return {k};
      case broadcasts: return {batch, 1, m, k};
      default: return {batch, m, k};
    }
  }
  Shape b() const {
    switch (form) {
      case shared_left:
      case pairs: return {batch, k, n};
      case broadcasts: return {2, k, n};
      case column: return {k};
      case by_linear:
      case by_linear_biased: return {n, k};
      default: return {k, n};
    }
  }
  Shape c() const {
    switch (form) {
      case matrices: return {m, n};
      case row: return {n};
      case column: return {m};
      case broadcasts: return {batch, 2, m, n};
      default: return {batch, m, n};
    }
  }
  int64_t count() const {
    if (form == matrices || form == row || form == column) return 1;
    return form == broadcasts ? 2 * batch : batch;
  }
  /// Which matrix of the left, or right, operand is part of the i-th product.
  int64_t left(int64_t i) const { return form == broadcasts ? i / 2 : form == shared_left ? 0 : i; }
  int64_t right(int64_t i) const {
    return form == broadcasts ? i % 2 : form == shared_left || form == pairs ? i : 0;
  }

  int64_t form, batch, m, n, k;
};

struct Results {
  Expected c, da, db, dbias;
};

Results by_definition(const Product& p, const std::vector<double>& a, const std::vector<double>& b,
                      const double* bias, const std::vector<double>& g) {
  Results r{Expected(p.c()), Expected(p.a()), Expected(p.b()), Expected(Shape{p.n})};
  const auto [row_b, column_b] =
      p.is_linear() ? std::pair(int64_t{1}, p.k) : std::pair(p.n, int64_t{1});
  for (int64_t i = 0; i < p.count(); ++i)
    for (int64_t r_ = 0; r_ < p.m; ++r_) {
      const int64_t to = (i * p.m + r_) * p.n, from_a = (p.left(i) * p.m + r_) * p.k;
      for (int64_t j = 0; j < p.n; ++j) {
        if (bias) r.c.add(to + j, bias[j]);
        r.dbias.add(j, g.data()[to + j]);
      }
      for (int64_t l = 0; l < p.k; ++l) {
        const int64_t from_b = p.right(i) * p.k * p.n + l * row_b;
        for (int64_t j = 0; j < p.n; ++j) {
          const double x = a.data()[from_a + l], y = b.data()[from_b + j * column_b],
                       outer = g.data()[to + j];
          r.c.add(to + j, x * y);
          r.da.add(from_a + l, outer * y);
          r.db.add(from_b + j * column_b, outer * x);
        }
      }
    }
  return r;
}

void compare_one(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Product p(c);
  const Operand a = operand(random, p.a(), dtype, c["layout of a"]),
                b = operand(random, p.b(), dtype, c["layout of b"]),
                g = operand(random, p.c(), dtype, c["layout of g"]),
                bias = operand(random, {p.n}, dtype, c["layout of b"]);
  const bool biased = p.form == by_linear_biased;
  const Results r =
      by_definition(p, a.values, b.values, biased ? bias.values.data() : nullptr, g.values);
  Tensor y;
  auto multiply = [&] {
    y = biased          ? linear(a.tensor, b.tensor, bias.tensor)
        : p.is_linear() ? linear(a.tensor, b.tensor)
                        : matmul(a.tensor, b.tensor);
    return y;
  };
  tally.compare("product", c, multiply, r.c);
  std::vector<Tally::Gradient> gradients{{"left", a.tensor, r.da}, {"right", b.tensor, r.db}};
  if (biased) gradients.push_back({"bias", bias.tensor, r.dbias});
  tally.compare_gradients("product", c, y, g.tensor.detach(), gradients);
}

std::vector<Factor> factors_of(const std::vector<Factor>& others) {
  return with({{"form", range(0, forms - 1)},
               {"batch", range(0, 5)},
               {"m", range(1, 20)},
               {"n", range(1, 20)},
               {"k", range(0, 20)},
               {"layout of a", range(0, layouts - 1)},
               {"layout of b", range(0, layouts - 1)},
               {"layout of g", range(0, layouts - 1)},
               {"tiles", {kPays, kAlways}},
               {"batches", {kPays, kAlways, kNever}},
               {"joined", {kPays, kNever}},
               {"copied", {kPays, kAlways}},
               {"turned", {kPays, kAlways, kNever}},
               {"cut", {kPays}},
               {"vectors", {kPays, kNever}}},
              others);
}

void sweep(Tally& tally, const char* name, const Cases& cases, int64_t impossible = 0) {
  Random random(cases.values.size());
  tally.sweep(name, cases, impossible, [&](const Case& c) {
    const Chosen tiles("matmul tiles", c["tiles"]), batches("matmul batch", c["batches"]),
        joined("matmul joined", c["joined"]), copied("matmul copied", c["copied"]),
        turned("gemm turned", c["turned"]), cut("gemm cut", c["cut"]),
        row_("gemv row", c["vectors"]), column_("gemv column", c["vectors"]);
    for (const DType dtype : {float32, float64}) compare_one(tally, c, dtype, random);
  });
}

}  // namespace

void compare_products(Tally& tally) {
  auto any = [](const Case&) { return true; };
  sweep(tally, "products", Cases(factors_of({}), any, 1000, 11));

  auto with_vector = [](const Case& c) { return c["m"] == 1 || c["n"] == 1 || c["k"] == 1; };
  sweep(tally, "products with a vector",
        Cases(factors_of({{"k", range(1, 20)}, {"vectors", {kPays}}}), with_vector, 200, 12));

  // Results of more than 1200 elements, in parts.
  const std::vector<Factor> wide =
      factors_of({{"form", {by_linear, by_linear_biased}},
                  {"batch", {1, 2}},
                  {"layout of a", {plain, gapped, every_second, expanded}},
                  {"layout of b", {plain, gapped, every_second, expanded}},
                  {"m", {1, 2, 3, 15, 31, 32, 33, 40}},
                  {"n", {31, 40, 64, 100, 401, 1203}},
                  {"k", {1, 2, 3, 20, 31, 128, 131}},
                  {"turned", {kNever}},
                  {"copied", {kPays}},
                  {"cut", {kAlways}}});
  auto in_parts = [](const Case& c) {
    return c["m"] * c["n"] > 1200 && c["m"] * c["n"] * c["k"] < 300'000;
  };
  sweep(tally, "products in parts", Cases(wide, in_parts, 900, 13), 22);

  // Without expanded outer gradients: a hundred terms that are alike all round the same way.
  const std::vector<Factor> large = factors_of({{"form", {matrices, by_linear, by_linear_biased}},
                                                {"batch", {1}},
                                                {"m", range(64, 150)},
                                                {"n", range(64, 150)},
                                                {"k", range(64, 200)},
                                                {"layout of g", range(plain, swapped)},
                                                {"tiles", {kNever}}});
  auto packed = [](const Case& c) {
    const int64_t work = c["m"] * c["n"] * c["k"];
    return work > 1'000'000 && work < 1'150'000;
  };
  sweep(tally, "packed products", Cases(large, packed, 200, 14, false));

  const std::vector<int64_t> sizes = range(1, 300);
  const std::vector<Factor> as_they_come = with(large, {{"m", sizes},
                                                        {"n", sizes},
                                                        {"k", sizes},
                                                        {"tiles", {kPays}},
                                                        {"turned", {kPays}},
                                                        {"vectors", {kPays}}});
  auto not_too_large = [](const Case& c) { return c["m"] * c["n"] * c["k"] < 3'000'000; };
  sweep(tally, "large products", Cases(as_they_come, not_too_large, 60, 15, false));
}

}  // namespace paths
