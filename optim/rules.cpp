#include "descent/optim/rules.hpp"

#include "descent/core/ops/factory.hpp"
#include "descent/optim/adam.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

template <> void NAdamRule<double>::prepare(Preparation& x) const {
  const double mu_product = (x.state[0].defined() ? x.state[0].item() : 1) * mu(x.t);
  x.state[0] = full({}, mu_product, float64);
  x.quantities = {mu_product};
}

template class Optimizer<SGDRule>;
template class Optimizer<AdagradRule>;
template class Optimizer<RMSpropRule>;
template class Optimizer<AdadeltaRule>;
template class Optimizer<RpropRule>;
template class Optimizer<ASGDRule>;
template class Optimizer<LionRule>;
template class Optimizer<AdamRule>;
template class Optimizer<AdamWRule>;
template class Optimizer<AdamaxRule>;
template class Optimizer<NAdamRule>;
template class Optimizer<RAdamRule>;

}}  // namespace descent::optim
