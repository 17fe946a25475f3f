// Classify photos: build/classify PHOTO...

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <numeric>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

#include "contract.hpp"
#include "photo.hpp"
#include "prepare.hpp"

namespace {

struct Answer {
    std::vector<double> probabilities;
    std::vector<int> ranking;  // classes, the most probable first
    double negative_energy = 0;

    bool is_chosen(int index) const {
        if (!contract::multi_label) return index == ranking.front();
        return probabilities[index] >= (contract::thresholds.empty() ? 0.5 : contract::thresholds[index]);
    }

    bool is_likely(int index) const {
        return probabilities[index] >= contract::set_threshold || (!contract::multi_label && is_chosen(index));
    }
};

Answer answer_of(const float* logits) {
    const int count = int(contract::names.size());
    const double highest = *std::max_element(logits, logits + count);
    Answer answer;
    double total = 0, plain = 0;
    for (int i = 0; i < count; ++i) {
        const double logit = logits[i], scaled = (logit - highest) / contract::temperature;
        answer.probabilities.push_back(contract::multi_label ? 1 / (1 + std::exp(-logit / contract::temperature)) : std::exp(scaled));
        total += std::exp(scaled);
        plain += std::exp(logit - highest);
        answer.negative_energy += std::max(0.0, logit) + std::log1p(std::exp(-std::abs(logit)));
    }
    if (!contract::multi_label) {
        for (double& value : answer.probabilities) value /= total;
        answer.negative_energy = highest + std::log(plain);
    }
    answer.ranking.resize(count);
    std::iota(answer.ranking.begin(), answer.ranking.end(), 0);
    std::stable_sort(answer.ranking.begin(), answer.ranking.end(),
                     [&](int a, int b) { return answer.probabilities[a] > answer.probabilities[b]; });
    return answer;
}

void print(const Answer& answer) {
    for (int place = 0; place < std::min(5, int(answer.ranking.size())); ++place) {
        const int index = answer.ranking[place];
        std::printf("%c %.4f  %s\n", answer.is_chosen(index) ? '*' : ' ', answer.probabilities[index], contract::names[index].c_str());
    }
    if (contract::has_sets) {
        std::string members;
        for (const int index : answer.ranking) {
            if (answer.is_likely(index)) members += (members.empty() ? "" : ", ") + contract::names[index];
        }
        std::printf("  %s: %s\n", contract::multi_label ? "labels among" : "one of", members.empty() ? "none" : members.c_str());
    }
    if (answer.negative_energy < contract::unknown_threshold) {
        std::printf("  unknown: unlike the images that the model was made for\n");
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) {
        std::puts("give photos: classify PHOTO...");
        return 2;
    }
    try {
        ov::Core core;
        ov::CompiledModel model = core.compile_model(
            MODEL, "CPU", {{"PERFORMANCE_HINT", "LATENCY"}, {"INFERENCE_PRECISION_HINT", contract::precision}});
        ov::InferRequest request = model.create_infer_request();
        for (int i = 1; i < count; ++i) {
            std::puts(arguments[i]);
            std::vector<float> input;
            try {
                input = prepare(read_photo(arguments[i]));
            } catch (const std::exception& error) {
                std::printf("  not a photo: %s\n", error.what());
                continue;
            }
            request.set_input_tensor(ov::Tensor(
                ov::element::f32, {1, contract::channels, contract::height, contract::width}, input.data()));
            request.infer();
            print(answer_of(request.get_output_tensor(0).data<float>()));
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
