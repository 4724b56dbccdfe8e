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

int64_t count(const ModuleBase& module, bool trainable_only = false) {
  int64_t n = 0;
  for (const Tensor& p : module.parameters())
    if (!trainable_only || p.requires_grad()) n += p.numel();
  return n;
}

}  // namespace

std::string summary(ModuleBase& model, const std::function<void()>& call) {
  std::vector<Row> rows;
  EvalGuard eval(model);
  {
    NoGradGuard no_grad;
    Observer observer([&](const Call& seen) {
      std::string name = seen.module.type(), shapes;
      if (!seen.path.empty()) name = fmt::format("{} ({})", seen.path, name);
      for (const Tensor& t : seen.outputs)
        shapes += (shapes.empty() ? "" : ", ") + (t.defined() ? str(t.shape()) : "undefined");
      rows.push_back({name, shapes, count(seen.module)});
    });
    call();
  }
  std::string table = fmt::format("{:<32} {:<20} {:>12}\n", "layer", "output", "parameters");
  for (const Row& row : rows)
    table += fmt::format("{:<32} {:<20} {:>12}\n", row.layer, row.shape, row.parameters);
  return table + fmt::format("{} parameters, {} trainable\n", count(model), count(model, true));
}

std::string summary(Module& model, const Shape& input_shape, At at) {
  const std::vector<Tensor> parameters = model.parameters();
  const DType dtype = parameters.empty() ? float32 : parameters[0].dtype();
  const std::string table = summary(model, [&] {
    (void)model({zeros(input_shape, dtype, at), at});
  });
  const std::size_t last = table.rfind('\n', table.size() - 2) + 1;
  return table.substr(0, last) +
         fmt::format("input {} {}, {}", str(dtype), str(input_shape), table.substr(last));
}

}}  // namespace descent::nn
