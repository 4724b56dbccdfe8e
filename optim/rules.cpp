#include "descent/optim/rules.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

template class Optimizer<SGDRule>;
template class Optimizer<AdagradRule>;
template class Optimizer<RMSpropRule>;
template class Optimizer<AdadeltaRule>;
template class Optimizer<RpropRule>;
template class Optimizer<ASGDRule>;
template class Optimizer<LionRule>;

}}  // namespace descent::optim
