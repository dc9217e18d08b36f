#include "encoded_convolutions.h"

#include <cstdint>

namespace corestream {
namespace {

constexpr size_t kNumbers = 12;
constexpr int64_t kWeight = 1, kBias = 2, kLow = 4, kHigh = 8;

std::optional<PackedConvolution> decode(const at::Tensor& packed, const at::Tensor& bias,
                                        at::IntArrayRef numbers, at::ArrayRef<double> limits) {
  const int64_t has = numbers[0];
  TORCH_CHECK(has == 0 || (has & kWeight) != 0,
              "what has no weight must have no bias and no limits; got flags ", has,
              "; call the function of corestream.ops");
  if (has == 0) return std::nullopt;
  const auto given = [&](int64_t flag, const auto& value) {
    return (has & flag) != 0 ? std::optional(value) : std::nullopt;
  };
  const ConvolutionShape shape{numbers.slice(1, 4), numbers.slice(5, 2), numbers.slice(7, 2),
                               numbers.slice(9, 2), numbers[11]};
  return PackedConvolution{packed, given(kBias, bias), shape, given(kLow, limits[0]),
                           given(kHigh, limits[1])};
}

}  // namespace

std::vector<std::optional<PackedConvolution>> decode_convolutions(at::TensorList packed,
                                                                  at::TensorList biases,
                                                                  at::IntArrayRef numbers,
                                                                  at::ArrayRef<double> limits) {
  const size_t count = packed.size();
  TORCH_CHECK(count >= 1 && biases.size() == count && numbers.size() == kNumbers * count &&
                  limits.size() == 2 * count,
              "there must be a bias, ", kNumbers, " numbers and 2 limits for each weight; got ",
              count, " weights, ", biases.size(), ", ", numbers.size(), " and ", limits.size(),
              "; call the function of corestream.ops");
  std::vector<std::optional<PackedConvolution>> decoded;
  decoded.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    decoded.push_back(decode(packed[i], biases[i], numbers.slice(kNumbers * i, kNumbers),
                             limits.slice(2 * i, 2)));
  }
  return decoded;
}

}  // namespace corestream
