#include "descent/nn/summary.hpp"

#include <fmt/format.h>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/factory.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {
namespace {

struct Row {
  std::string layer, shape;
  int64_t parameters;
};

int64_t count(const Module& module, bool trainable_only = false) {
  int64_t n = 0;
  for (const Tensor& p : module.parameters())
    if (!trainable_only || p.requires_grad()) n += p.numel();
  return n;
}

}  // namespace

std::string summary(Module& model, const Shape& input_shape, At at) {
  std::vector<Row> rows;
  const std::vector<Tensor> parameters = model.parameters();
  const DType dtype = parameters.empty() ? float32 : parameters[0].dtype();
  EvalGuard eval(model);
  {
    NoGradGuard no_grad;
    Observer observer([&](const Call& call) {
      const std::string name = call.path.empty()
                                   ? call.module.type()
                                   : fmt::format("{} ({})", call.path, call.module.type());
      rows.push_back({name, str(call.output.shape()), count(call.module)});
    });
    model({zeros(input_shape, dtype, at), at});
  }
  std::string table = fmt::format("{:<32} {:<20} {:>12}\n", "layer", "output", "parameters");
  for (const Row& row : rows)
    table += fmt::format("{:<32} {:<20} {:>12}\n", row.layer, row.shape, row.parameters);
  return table + fmt::format("input {} {}, {} parameters, {} trainable\n", str(dtype),
                             str(input_shape), count(model), count(model, true));
}

}}  // namespace descent::nn
