/* Stand-in for TFLite Micro: see README.md. Counts what is registered, and refuses more than there is room for. */
#ifndef STAND_IN_RESOLVER_H
#define STAND_IN_RESOLVER_H

#include "tensorflow/lite/micro/micro_interpreter.h"

namespace tflite {
#ifdef STAND_IN_NESTED
namespace micro {
#endif

template <unsigned kOps>
class MicroMutableOpResolver : public MicroOpResolver {
  public:
#define STAND_IN_ADD(name) \
    TfLiteStatus Add##name() { return ++registered > kOps ? kTfLiteError : kTfLiteOk; }
    STAND_IN_ADD(Add)
    STAND_IN_ADD(AveragePool2D)
    STAND_IN_ADD(Concatenation)
    STAND_IN_ADD(Conv2D)
    STAND_IN_ADD(DepthwiseConv2D)
    STAND_IN_ADD(FullyConnected)
    STAND_IN_ADD(HardSwish)
    STAND_IN_ADD(MaxPool2D)
    STAND_IN_ADD(Mean)
    STAND_IN_ADD(Mul)
    STAND_IN_ADD(Pad)
    STAND_IN_ADD(Relu)
    STAND_IN_ADD(Relu6)
    STAND_IN_ADD(Reshape)
    STAND_IN_ADD(Softmax)
#undef STAND_IN_ADD
};

#ifdef STAND_IN_NESTED
}  // namespace micro
#endif
}  // namespace tflite

#endif
