#include "prepare.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "contract.hpp"

namespace {

constexpr int bits = 22;  // fractional bits of filter weights

struct Range {
    float low;  // with 32 bits, as in Pillow
    float high;
    double span() const { return double(high - low); }
};

// The part of a row that a pixel of the resized row is made of.
struct Part {
    int first;
    std::vector<std::int64_t> weights;
};

double weight_of(double x) {
    x = std::abs(x);
    if (contract::interpolation == "bilinear") return std::max(0.0, 1 - x);
    constexpr double a = -0.5;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

std::vector<Part> parts_of(int size, Range range, int target) {
    const double scale = range.span() / target, stretch = std::max(1.0, scale);  // antialiasing
    const double support = (contract::interpolation == "bilinear" ? 1 : 2) * stretch;
    std::vector<Part> parts;
    for (int index = 0; index < target; ++index) {
        const double center = range.low + (index + 0.5) * scale;
        const int first = std::max(0, int(center - support + 0.5)), last = std::min(size, int(center + support + 0.5));
        std::vector<double> weights;
        for (int x = first; x < last; ++x) weights.push_back(weight_of((x - center + 0.5) / stretch));
        const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
        Part part{first, {}};
        for (const double weight : weights) {
            const double fixed = weight / total * (1 << bits);
            part.weights.push_back(std::int64_t(fixed + (fixed < 0 ? -0.5 : 0.5)));
        }
        parts.push_back(std::move(part));
    }
    return parts;
}

std::uint8_t to_byte(std::int64_t sum) {
    sum += 1 << (bits - 1);
    return sum < 0 ? 0 : std::uint8_t(std::min<std::int64_t>(255, sum >> bits));
}

std::vector<int> nearest_places(Range range, int target) {
    const double step = range.span() / target;
    std::vector<int> places;
    for (double place = range.low + step * 0.5; int(places.size()) < target; place += step) places.push_back(int(place));
    return places;
}

using Plane = std::vector<std::uint8_t>;

// Resize a box of one channel, first along the rows and then along the columns, rounding to 8 bits after each.
Plane resized(const Plane& values, int width, int height, Range across, Range down) {
    const int target_width = contract::width, target_height = contract::height;
    Plane result(std::size_t(target_width) * target_height);
    if (contract::interpolation == "nearest") {
        const auto columns = nearest_places(across, target_width), rows = nearest_places(down, target_height);
        for (int y = 0; y < target_height; ++y) {
            for (int x = 0; x < target_width; ++x) result[y * target_width + x] = values[std::size_t(rows[y]) * width + columns[x]];
        }
        return result;
    }
    const auto columns = parts_of(width, across, target_width), rows = parts_of(height, down, target_height);
    const int top = rows.front().first, bottom = rows.back().first + int(rows.back().weights.size());
    Plane narrow(std::size_t(target_width) * (bottom - top));
    for (int y = top; y < bottom; ++y) {
        for (int x = 0; x < target_width; ++x) {
            const std::uint8_t* from = &values[std::size_t(y) * width + columns[x].first];
            std::int64_t sum = 0;
            for (const std::int64_t weight : columns[x].weights) sum += weight * *from++;
            narrow[std::size_t(y - top) * target_width + x] = to_byte(sum);
        }
    }
    for (int y = 0; y < target_height; ++y) {
        for (int x = 0; x < target_width; ++x) {
            const std::uint8_t* from = &narrow[std::size_t(rows[y].first - top) * target_width + x];
            std::int64_t sum = 0;
            for (const std::int64_t weight : rows[y].weights) {
                sum += weight * *from;
                from += target_width;
            }
            result[std::size_t(y) * target_width + x] = to_byte(sum);
        }
    }
    return result;
}

Plane plane_of(const Photo& photo, int channel) {
    Plane plane;
    for (std::size_t i = 0; i < photo.rgb.size(); i += 3) {
        const std::uint8_t* pixel = &photo.rgb[i];
        plane.push_back(contract::channels == 1
                            ? std::uint8_t((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 32768) >> 16)
                            : pixel[channel]);
    }
    return plane;
}

}  // namespace

std::vector<float> prepare(const Photo& photo) {
    const int divisor = std::gcd(contract::width, contract::height);
    const int across = contract::width / divisor, down = contract::height / divisor;
    const double unit = contract::crop * std::min(double(photo.width) / across, double(photo.height) / down);
    const double left = (photo.width - unit * across) / 2, top = (photo.height - unit * down) / 2;
    const Range columns{float(left), float(left + unit * across)}, rows{float(top), float(top + unit * down)};
    std::vector<float> input;
    for (int channel = 0; channel < contract::channels; ++channel) {
        for (const int value : resized(plane_of(photo, channel), photo.width, photo.height, columns, rows)) {
            input.push_back(float((value / 255.0 - contract::mean[channel]) / contract::deviation[channel]));
        }
    }
    return input;
}
