// An LSTM's activations. Included by one file for each kind of element and instruction set.
#pragma once

#include "elements_simd.h"
#include "lstm_kernel.h"

namespace corestream {
namespace {

inline Floats sigmoid(Floats x) {
  const Floats decay = exp_nonpositive(subtract(zero(), absolute(x)));
  return divide(choose_negative(x, decay, each(1.0f)), add(each(1.0f), decay));
}

// Near 0, where the quotient would lose digits, x + x^3 P(x^2), fitted at Chebyshev's nodes with an
// error of 1.3e-7 of the result.
inline Floats tanh(Floats x) {
  constexpr float kSmall = 0.625f;
  const Floats size = absolute(x), square = multiply(x, x);
  Floats sum = each(-0.00610494794f);
  constexpr float kTerms[] = {0.0210036412f, -0.0538524974f, 0.133327823f, -0.333333291f};
  for (const float term : kTerms) sum = multiply_add(sum, square, each(term));
  const Floats near = multiply_add(multiply(sum, square), x, x);
  const Floats decay = exp_nonpositive(multiply(each(-2.0f), size));
  const Floats far = divide(subtract(each(1.0f), decay), add(each(1.0f), decay));
  const Floats signed_far = choose_negative(x, subtract(zero(), far), far);
  return choose_negative(subtract(size, each(kSmall)), near, signed_far);
}

template <typename Kind>
struct LstmRow {
  using Element = typename Kind::Element;

  const LstmCells& cells;
  int64_t row;

  const Element* gates() const {
    return static_cast<const Element*>(cells.gates) + row * cells.gates_row;
  }
  float* cell() const { return cells.cell + row * cells.hidden; }

  Floats old_cell(int64_t unit, Which which) const {
    if (cells.first_cell == nullptr) return load(cell() + unit, which);
    const auto* first = static_cast<const Element*>(cells.first_cell);
    return Kind::widen(first + row * cells.hidden + unit, which);
  }

  void keep(Floats state, Floats output, int64_t unit, Which which) const {
    FP32::narrow(cell() + unit, state, which);
    Kind::narrow(static_cast<Element*>(cells.output) + row * cells.output_row + unit, output,
                 which);
    if (cells.last_cell == nullptr) return;
    const int64_t at = row * cells.hidden + unit;
    Kind::narrow(static_cast<Element*>(cells.last_cell) + at, state, which);
    Kind::narrow(static_cast<Element*>(cells.last_output) + at, output, which);
  }
};

template <typename Kind>
void finish_unit(const LstmRow<Kind>& row, int64_t block, int64_t lane) {
  const int64_t unit = block * kVector + lane;
  if (unit >= row.cells.hidden) return;
  const Which which = first_lanes(row.cells.hidden - unit);
  const auto* gates = row.gates() + block * kGatesPerBlock + lane;
  const Floats in = sigmoid(Kind::widen(gates));
  const Floats forget = sigmoid(Kind::widen(gates + kVector));
  const Floats fresh = tanh(Kind::widen(gates + 2 * kVector));
  const Floats out = sigmoid(Kind::widen(gates + 3 * kVector));
  const Floats kept = multiply(forget, row.old_cell(unit, which));
  const Floats state = multiply_add(in, fresh, kept);
  row.keep(state, multiply(out, tanh(state)), unit, which);
}

template <typename Kind>
void finish_cells(const LstmCells& cells, int64_t begin, int64_t end) {
  for (int64_t index = 0; index < cells.batch; ++index) {
    const LstmRow<Kind> row{cells, index};
    for (int64_t block = begin; block < end; ++block) {
      for (int64_t lane = 0; lane < kVector; lane += kLanes) finish_unit(row, block, lane);
    }
  }
}

}  // namespace
}  // namespace corestream
