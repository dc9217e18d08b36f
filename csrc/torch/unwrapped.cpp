#include "unwrapped.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/alias.h>

namespace corestream {
namespace {

at::Tensor unwrap(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  auto* implementation = tensor.unsafeGetTensorImpl();
  if (implementation->is_python_dispatch()) return tensor;  // a subclass is its Python object
  if (at::GradMode::is_enabled() && tensor.requires_grad()) return at::alias(tensor);
  return at::Tensor(implementation->shallow_copy_and_detach(
      c10::VariableVersion(implementation->version_counter()),
      /*allow_tensor_metadata_change=*/true));
}

c10::IValue unwrap(const c10::IValue& value) {
  if (value.isTensor()) return unwrap(value.toTensor());
  if (value.isTensorList()) {
    auto tensors = value.toTensorList();
    for (size_t index = 0; index < tensors.size(); ++index) {
      tensors.set(index, unwrap(tensors.get(index)));
    }
  } else if (value.isList()) {
    auto items = value.toList();
    for (size_t index = 0; index < items.size(); ++index) {
      items.set(index, unwrap(items.get(index)));
    }
  } else if (value.isGenericDict()) {
    auto entries = value.toGenericDict();
    for (const auto& entry : entries) entry.setValue(unwrap(entry.value()));
  } else if (value.isTuple()) {
    const auto tuple = value.toTuple();
    std::vector<c10::IValue> elements;
    for (const c10::IValue& element : tuple->elements()) elements.push_back(unwrap(element));
    return c10::ivalue::Tuple::createNamed(std::move(elements), tuple->type());
  }
  return value;
}

}  // namespace

void unwrap_tensors(torch::jit::Stack& inputs) {
  for (c10::IValue& input : inputs) {
    if (input.isPtrType()) input = unwrap(input);
  }
}

}  // namespace corestream
