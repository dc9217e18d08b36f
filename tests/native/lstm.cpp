// The kernels of csrc/torch for an LSTM's activations, on memory that ends where the tensors do.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "elements.h"
#include "lstm_kernel.h"
#include "testing.h"

#if defined(__x86_64__)
namespace corestream {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// A step of some sequences, the first, the last or one between, and what it should be.
template <typename Element>
class Case {
 public:
  Case(std::mt19937& random, int turn) {
    const auto upto = [&](int64_t most) { return 1 + static_cast<int64_t>(random() % most); };
    LstmCells& c = cells_;
    c.batch = upto(4);
    c.hidden = upto(70);
    blocks_ = (c.hidden + kVector - 1) / kVector;
    c.gates_row = blocks_ * kGatesPerBlock;
    c.output_row = c.hidden + (turn % 3 == 0 ? 5 : 0);
    std::uniform_real_distribution<float> values(-1, 1);
    // Also what saturates, and what is so small that a difference would lose its digits.
    const float scale = turn % 4 == 0 ? 200.0f : turn % 4 == 1 ? 1e-3f : 3.0f;
    gates_ = std::make_unique<Element[]>(c.batch * c.gates_row);
    for (int64_t i = 0; i < c.batch * c.gates_row; ++i) store(gates_[i], scale * values(random));
    if (turn % 8 == 0) {
      // Of the first unit, whatever the gate.
      store(gates_[turn / 8 % kNumGates * kVector], turn % 16 == 0 ? kInfinity : -kInfinity);
    }
    const int64_t states = c.batch * c.hidden;
    cell_ = std::make_unique<float[]>(states);
    first_ = std::make_unique<Element[]>(states);
    for (int64_t i = 0; i < states; ++i) {
      cell_[i] = values(random);
      store(first_[i], values(random));
    }
    old_.assign(cell_.get(), cell_.get() + states);
    // The last sequence has no gap behind it.
    output_ = std::make_unique<Element[]>(c.batch * c.output_row - (c.output_row - c.hidden));
    last_output_ = std::make_unique<Element[]>(states);
    last_cell_ = std::make_unique<Element[]>(states);
    c.gates = gates_.get();
    c.cell = cell_.get();
    c.output = output_.get();
    if (turn % 2 == 0) c.first_cell = first_.get();
    if (turn % 5 != 0) return;
    c.last_output = last_output_.get();
    c.last_cell = last_cell_.get();
  }

  void run(LstmKernel kernel) {
    kernel(cells_, 0, blocks_ / 2);
    kernel(cells_, blocks_ / 2, blocks_);
  }

  // Of outputs and states, where these are larger than 1 as a share of them.
  double error() const {
    double worst = 0;
    const auto compare = [&](double found, double wanted) {
      worst = std::max(worst, distance(found, wanted) / std::max(1.0, std::abs(wanted)));
    };
    for (int64_t row = 0; row < cells_.batch; ++row) {
      for (int64_t unit = 0; unit < cells_.hidden; ++unit) {
        const int64_t at = row * cells_.hidden + unit;
        const double state = expected_state(row, unit);
        const double output = sigmoid(gate(row, unit, 3)) * std::tanh(state);
        compare(cell_[at], state);
        compare(value_of(output_[row * cells_.output_row + unit]), output);
        if (cells_.last_cell == nullptr) continue;
        compare(value_of(last_cell_[at]), state);
        compare(value_of(last_output_[at]), output);
      }
    }
    return worst;
  }

 private:
  double gate(int64_t row, int64_t unit, int64_t which) const {
    const int64_t block = unit / kVector, lane = unit % kVector;
    return value_of(
        gates_[row * cells_.gates_row + block * kGatesPerBlock + which * kVector + lane]);
  }

  double expected_state(int64_t row, int64_t unit) const {
    const int64_t at = row * cells_.hidden + unit;
    const double before = cells_.first_cell == nullptr ? old_[at] : value_of(first_[at]);
    return sigmoid(gate(row, unit, 1)) * before +
           sigmoid(gate(row, unit, 0)) * std::tanh(gate(row, unit, 2));
  }

  LstmCells cells_{};
  int64_t blocks_;
  std::vector<float> old_;
  std::unique_ptr<float[]> cell_;
  std::unique_ptr<Element[]> gates_, first_, output_, last_output_, last_cell_;
};

template <typename Element>
void try_steps(LstmKernel kernel, double limit) {
  std::mt19937 random(7);
  for (int turn = 0; turn < 200; ++turn) {
    Case<Element> one(random, turn);
    one.run(kernel);
    CHECK(one.error() < limit);
  }
}

TEST(fp32_steps_are_right_and_stay_within_their_tensors) {
  if (has_avx2()) try_steps<float>(&lstm_fp32_avx2, 1e-6);
  if (has_avx512()) try_steps<float>(&lstm_fp32_avx512, 1e-6);
}

TEST(bf16_steps_are_right_and_stay_within_their_tensors) {
  if (has_avx512_bf16()) try_steps<uint16_t>(&lstm_bf16_avx512, 5e-3);
}

TEST(what_is_no_number_stays_none) {
  for (const LstmKernel kernel :
       {has_avx2() ? &lstm_fp32_avx2 : nullptr, has_avx512() ? &lstm_fp32_avx512 : nullptr}) {
    if (kernel == nullptr) continue;
    for (int64_t which = 0; which < kNumGates; ++which) {
      std::vector<float> gates(kGatesPerBlock), cell(kVector, 0.5f), output(kVector);
      gates[which * kVector + 3] = std::nanf("");
      LstmCells cells{};
      cells.gates = gates.data();
      cells.cell = cell.data();
      cells.output = output.data();
      cells.batch = 1;
      cells.hidden = cells.output_row = kVector;
      cells.gates_row = kGatesPerBlock;
      kernel(cells, 0, 1);
      for (int64_t unit = 0; unit < kVector; ++unit) {
        CHECK_EQ(std::isnan(output[unit]), unit == 3);
      }
    }
  }
}

}  // namespace
}  // namespace corestream
#endif
