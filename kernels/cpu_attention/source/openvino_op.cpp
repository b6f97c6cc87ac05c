// The operation for OpenVINO: `CpuAttention` of the set "x2i", which `openvino_op.py` puts into models.
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/op/op.hpp>

#include <cstring>

#include "attention.h"

namespace {

// query [B, N, C], key and value [B, M, C] in float32 or bfloat16, and for the injected form second_key and
// second_value [B, L, C], token int32 [B], strength float32 [B]; returns [B, N, C].
class CpuAttention : public ov::op::Op {
  public:
    OPENVINO_OP("CpuAttention", "x2i");

    CpuAttention() = default;
    CpuAttention(const ov::OutputVector& inputs, std::int64_t heads, float scale, bool int8)
        : Op(inputs), heads_(heads), scale_(scale), int8_(int8) {
        constructor_validate_and_infer_types();
    }

    void validate_and_infer_types() override {
        NODE_VALIDATION_CHECK(this, get_input_size() == 3 || get_input_size() == 7, "expected 3 or 7 inputs, got ",
                              get_input_size());
        const auto element = get_input_element_type(0);
        NODE_VALIDATION_CHECK(this, element == ov::element::f32 || element == ov::element::bf16,
                              "expected float32 or bfloat16, got ", element);
        set_output_type(0, element, get_input_partial_shape(0));
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<CpuAttention>(inputs, heads_, scale_, int8_);
    }

    bool visit_attributes(ov::AttributeVisitor& visitor) override {
        visitor.on_attribute("heads", heads_);
        visitor.on_attribute("scale", scale_);
        visitor.on_attribute("int8", int8_);
        return true;
    }

    bool has_evaluate() const override { return true; }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        outputs[0].set_shape(inputs[0].get_shape());
        try {
            OPENVINO_ASSERT(x2i::cpu_can_attend(), "this CPU lacks instructions with which CpuAttention is written");
            x2i::attention(call(outputs[0], inputs));
        } catch (const std::exception&) {
            // With one thread OpenVINO 2026.4 loses what is raised here, stops, and gives out memory as it finds it.
            // What is no number goes through the rest of the graph, and is seen.
            std::memset(outputs[0].data(), 0xFF, outputs[0].get_byte_size());
        }
        return true;
    }

  private:
    x2i::Call call(const ov::Tensor& output, const ov::TensorVector& inputs) const {
        const ov::Shape shape = inputs[0].get_shape();
        check(inputs);
        x2i::Call call;
        call.batch = shape[0], call.heads = heads_, call.width = shape[2] / heads_, call.scale = scale_;
        call.element = inputs[0].get_element_type() == ov::element::bf16 ? x2i::Element::bfloat16 : x2i::Element::float32;
        call.products = int8_ ? x2i::Products::int8 : x2i::Products::bf16;
        call.query = tensor(inputs[0]), call.key = tensor(inputs[1]), call.value = tensor(inputs[2]);
        call.output = tensor(output);
        if (inputs.size() == 7) {
            call.second_key = tensor(inputs[3]), call.second_value = tensor(inputs[4]);
            call.token = inputs[5].data<const std::int32_t>(), call.strength = inputs[6].data<const float>();
        }
        return call;
    }

    // What a model with free sizes shows only now.
    void check(const ov::TensorVector& inputs) const {
        const ov::Shape query = inputs[0].get_shape();
        const std::size_t tensors = inputs.size() == 7 ? 5 : 3;
        OPENVINO_ASSERT(query.size() == 3 && heads_ > 0 && query[2] % heads_ == 0, "heads do not divide the channels");
        for (std::size_t i = 1; i < tensors; ++i) {
            const ov::Shape shape = inputs[i].get_shape();
            OPENVINO_ASSERT(shape.size() == 3 && shape[0] == query[0] && shape[2] == query[2], "another batch or width");
            OPENVINO_ASSERT(i % 2 == 1 || shape == inputs[i - 1].get_shape(), "keys and values of other numbers");
        }
        for (std::size_t i = tensors; i < inputs.size(); ++i)
            OPENVINO_ASSERT(inputs[i].get_size() == query[0], "expected a number a sample");
    }

    x2i::Tensor tensor(const ov::Tensor& whole) const {
        const auto& shape = whole.get_shape();
        const auto rows = static_cast<std::int64_t>(shape[1]), channels = static_cast<std::int64_t>(shape[2]);
        return {const_cast<void*>(whole.data()), rows, rows * channels, channels, channels / heads_};
    }

    std::int64_t heads_ = 1;
    float scale_ = 1;
    bool int8_ = false;
};

}  // namespace

OPENVINO_CREATE_EXTENSIONS(
    std::vector<ov::Extension::Ptr>({std::make_shared<ov::OpExtension<CpuAttention>>()}));

// Asked before the library is given to OpenVINO, which would call the operation on any CPU.
extern "C" __attribute__((visibility("default"))) int x2i_cpu_can_attend() { return x2i::cpu_can_attend(); }
