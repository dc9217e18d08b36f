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
  const bool has_gradient = (at::GradMode::is_enabled() && tensor.requires_grad()) ||
                            tensor._fw_grad(/*level=*/0).defined();
  if (has_gradient) return at::alias(tensor);
  return at::Tensor(implementation->shallow_copy_and_detach(
      c10::VariableVersion(implementation->version_counter()),
      /*allow_tensor_metadata_change=*/true));
}

c10::IValue unwrap(const c10::IValue& value) {
  if (value.isTensor()) return unwrap(value.toTensor());
  if (value.isTensorList()) {
    // New containers: a torch.jit.ScriptList or ScriptDict is the caller's own.
    c10::List<at::Tensor> unwrapped;
    for (const at::Tensor& tensor : value.toTensorVector()) unwrapped.push_back(unwrap(tensor));
    return unwrapped;
  }
  if (value.isList()) {
    const auto items = value.toList();
    c10::impl::GenericList unwrapped(items.elementType());
    for (size_t index = 0; index < items.size(); ++index)
      unwrapped.push_back(unwrap(items.get(index)));
    return unwrapped;
  }
  if (value.isGenericDict()) {
    const auto entries = value.toGenericDict();
    c10::impl::GenericDict unwrapped(entries.keyType(), entries.valueType());
    for (const auto& entry : entries) unwrapped.insert(entry.key(), unwrap(entry.value()));
    return unwrapped;
  }
  if (value.isTuple()) {
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
