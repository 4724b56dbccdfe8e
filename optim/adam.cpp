#include "descent/optim/adam.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

template class Optimizer<AdamRule>;
template class Optimizer<AdamWRule>;
template class Optimizer<AdamaxRule>;
template class Optimizer<NAdamRule>;
template class Optimizer<RAdamRule>;

}}  // namespace descent::optim
