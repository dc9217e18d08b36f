#include "graph_recorder.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <ATen/MemoryOverlap.h>
#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace corestream {
namespace {

using torch::jit::Node;
using torch::jit::Stack;
using torch::jit::Value;
namespace prim = torch::jit::prim;

// What the interpreter does by itself, for lists of tensors or of sizes.
bool is_structure(const Node& node) {
  if (node.kind() == prim::ListConstruct) {
    const auto element = node.output()->type()->castRaw<c10::ListType>()->getElementType();
    return element->isSubtypeOf(*c10::TensorType::get()) || *element == *c10::IntType::get();
  }
  if (node.kind() == prim::TupleConstruct) {
    return !node.output()->type()->expectRef<c10::TupleType>().name().has_value();
  }
  return node.kind() == prim::TupleUnpack || node.kind() == prim::ListUnpack;
}

bool is_ours(const Node& node) {
  return node.kind().ns().toUnqualString() == std::string("corestream");
}

// Their output is their first argument, in another layout or type.
bool is_copy(const Node& node) {
  static const std::array kinds{
      c10::Symbol::fromQualString("aten::contiguous"), c10::Symbol::fromQualString("aten::clone"),
      c10::Symbol::fromQualString("aten::to"), c10::Symbol::fromQualString("aten::_to_copy")};
  return std::find(kinds.begin(), kinds.end(), node.kind()) != kinds.end();
}

bool may_run_again(const Node& node) {
  if (node.kind() == prim::Constant || is_structure(node)) return true;
  const c10::FunctionSchema* schema = node.maybeSchema();
  return node.blocks().empty() && schema != nullptr && !schema->is_mutable() &&
         !schema->is_vararg() && !node.hasSideEffects() && node.maybeOperator() != nullptr;
}

void build(const Node& node, Stack& stack) {
  if (node.kind() == prim::TupleConstruct) {
    stack = {c10::ivalue::Tuple::create(std::move(stack))};
  } else if (node.kind() == prim::TupleUnpack) {
    stack = Stack(c10::IValue(stack[0]).toTupleRef().elements());
  } else if (node.kind() == prim::ListUnpack) {
    stack = c10::IValue(stack[0]).toListRef().vec();
  } else {
    c10::impl::GenericList list(node.output()->type()->castRaw<c10::ListType>()->getElementType());
    for (c10::IValue& item : stack) list.push_back(std::move(item));
    stack = {std::move(list)};
  }
}

template <typename Visit>
void for_each_tensor(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) for_each_tensor(item, visit);
  } else if (value.isTuple()) {
    for (const c10::IValue& item : value.toTupleRef().elements()) for_each_tensor(item, visit);
  }
}

std::vector<const c10::StorageImpl*> storages_of(const Stack& values) {
  std::vector<const c10::StorageImpl*> found;
  for (const c10::IValue& value : values) {
    for_each_tensor(value, [&](const at::Tensor& tensor) {
      if (tensor.has_storage()) found.push_back(tensor.storage().unsafeGetStorageImpl());
    });
  }
  return found;
}

// Whether it can be written to, and holds little that is not its own.
bool may_hold(const at::Tensor& tensor) {
  if (!is_plain(tensor)) return false;
  const size_t extent = at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), 1);
  return at::has_internal_overlap(tensor) == at::MemOverlap::No &&
         extent <= 2 * static_cast<size_t>(tensor.numel()) + 64;
}

}  // namespace

bool may_capture(const torch::jit::Graph& graph) {
  bool has_ours = false;
  for (const Node* node : graph.nodes()) {
    if (!may_run_again(*node)) return false;
    has_ours = has_ours || is_ours(*node);
  }
  return has_ours && graph.outputs().size() == 1;
}

GraphRecorder::GraphRecorder(const torch::jit::Graph& graph, const Stack& inputs)
    : graph_(graph), captured_(std::make_unique<CapturedGraph>()) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value* value = graph.inputs()[i];
    CapturedGraph::Input input;
    c10::IValue held = inputs[i];
    if (held.isTensor() && may_hold(held.toTensor())) {
      const at::Tensor& given = held.toTensor();
      input.held = at::empty_strided(given.sizes(), given.strides(), given.options()).copy_(given);
      held = input.held;
    } else if (held.isTensor() || !value->uses().empty()) {
      captured_ = nullptr;  // among others a number, which may be another one next time
    }
    if (captured_ != nullptr) captured_->inputs_.push_back(std::move(input));
    values_[value] = std::move(held);
    uses_left_[value] = value->uses().size();
  }
}

c10::IValue GraphRecorder::take_value(const Value* value) {
  const auto found = values_.find(value);
  if (--uses_left_[value] > 0) return found->second;
  c10::IValue last = std::move(found->second);
  values_.erase(found);
  return last;
}

c10::IValue GraphRecorder::run() {
  for (const Node* node : graph_.nodes()) run(*node);
  c10::IValue output = values_.at(graph_.outputs()[0]);
  if (captured_ != nullptr && !may_return(output)) captured_ = nullptr;
  if (captured_ != nullptr) captured_->output_ = output;
  return output;
}

void GraphRecorder::run(const Node& node) {
  Stack stack;
  if (node.kind() == prim::Constant) {
    stack.push_back(*torch::jit::toIValue(node.output()));
  } else {
    for (const Value* input : node.inputs()) stack.push_back(take_value(input));
    if (is_structure(node)) {
      build(node, stack);
    } else {
      call(node, stack);
    }
  }
  for (size_t i = 0; i < stack.size(); ++i) {
    const Value* output = node.outputs()[i];
    uses_left_[output] = output->uses().size();
    if (!output->uses().empty()) values_[output] = std::move(stack[i]);
  }
}

void GraphRecorder::call(const Node& node, Stack& stack) {
  Stack arguments = stack;
  capture_.begin_call();
  node.getOperation()(stack);
  Capture::Seen seen = capture_.end_call();
  if (captured_ == nullptr) return;
  // Others, that call nothing either, may have read a tensor's numbers.
  const bool depends_on_shapes = is_ours(node) || Capture::is_view(node.kind().toQualString());
  if (depends_on_shapes && !seen.calls_torch) {
    record_own(std::move(seen.works), arguments);
  } else {
    record_torch(node, std::move(arguments), stack);
  }
}

void GraphRecorder::record_own(std::vector<TeamWork> works, const Stack& arguments) {
  for (const c10::IValue& argument : arguments) mark_read(argument);
  if (works.empty()) return;
  own_regions_ += std::count_if(works.begin(), works.end(),
                                [](const TeamWork& work) { return !work.is_further_step; });
  auto& parts = captured_->parts_;
  if (parts.empty() || !std::holds_alternative<CapturedGraph::OwnWork>(parts.back())) {
    parts.emplace_back(CapturedGraph::OwnWork());
  }
  auto& all = std::get<CapturedGraph::OwnWork>(parts.back());
  std::move(works.begin(), works.end(), std::back_inserter(all));
}

void GraphRecorder::record_torch(const Node& node, Stack arguments, const Stack& outputs) {
  CapturedGraph::TorchCall call{node.getOperation(), std::move(arguments), {}, {}, is_copy(node)};
  for (const c10::IValue& output : outputs) {
    if (!output.isTensor() || !may_hold(output.toTensor())) {
      captured_ = nullptr;  // among others numbers of a tensor, that decide what comes
      return;
    }
    captured_->num_bytes_ += output.toTensor().nbytes();
    call.outputs.push_back(output.toTensor());
  }
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    const c10::IValue& argument = call.arguments[i];
    const auto input = argument.isTensor() ? input_of(argument.toTensor()) : std::nullopt;
    if (input.has_value()) {
      call.inputs.emplace_back(i, *input);
    } else {
      mark_read(argument);
    }
  }
  ++torch_calls_;
  captured_->parts_.emplace_back(std::move(call));
}

std::optional<size_t> GraphRecorder::input_of(const at::Tensor& tensor) const {
  for (size_t i = 0; i < captured_->inputs_.size(); ++i) {
    if (tensor.defined() && tensor.is_same(captured_->inputs_[i].held)) return i;
  }
  return std::nullopt;
}

void GraphRecorder::mark_read(const c10::IValue& value) {
  for_each_tensor(value, [&](const at::Tensor& tensor) {
    for (CapturedGraph::Input& input : captured_->inputs_) {
      input.is_read = input.is_read || (input.held.defined() && tensor.is_alias_of(input.held));
    }
  });
}

// Copies of outputs have a memory each, and none with an input.
bool GraphRecorder::may_return(const c10::IValue& output) const {
  const bool is_known = output.isTensor() || output.isTensorList() || output.isTuple();
  if (!is_known) return false;
  if (output.isTuple()) {
    for (const c10::IValue& item : output.toTupleRef().elements()) {
      if (!item.isTensor()) return false;
    }
  }
  auto storages = storages_of({output});
  for (const CapturedGraph::Input& input : captured_->inputs_) {
    if (input.held.defined()) storages.push_back(input.held.storage().unsafeGetStorageImpl());
  }
  std::sort(storages.begin(), storages.end());
  return std::adjacent_find(storages.begin(), storages.end()) == storages.end();
}

std::unique_ptr<CapturedGraph> GraphRecorder::take() {
  // What torch returns is copied, which takes a fraction of what is saved for one of ours.
  if (captured_ == nullptr || 2 * own_regions_ < torch_calls_) return nullptr;
  captured_->memory_ = capture_.memory();
  captured_->num_bytes_ += captured_->memory_->num_bytes();
  for (const CapturedGraph::Input& input : captured_->inputs_) {
    if (input.held.defined()) captured_->num_bytes_ += input.held.nbytes();
  }
  return std::move(captured_);
}

}  // namespace corestream
