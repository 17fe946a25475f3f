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

Plane along_rows(const Plane& values, int width, const std::vector<Part>& parts) {
    Plane result;
    for (std::size_t row = 0; row < values.size(); row += width) {
        for (const Part& part : parts) {
            const std::uint8_t* from = &values[row + part.first];
            std::int64_t sum = 0;
            for (const std::int64_t weight : part.weights) sum += weight * *from++;
            result.push_back(to_byte(sum));
        }
    }
    return result;
}

Plane along_columns(const Plane& values, int width, const std::vector<Part>& parts) {
    Plane result;
    for (const Part& part : parts) {
        for (int x = 0; x < width; ++x) {
            std::size_t at = std::size_t(part.first) * width + x;
            std::int64_t sum = 0;
            for (const std::int64_t weight : part.weights) {
                sum += weight * values[at];
                at += width;
            }
            result.push_back(to_byte(sum));
        }
    }
    return result;
}

// Resize a box of one channel along rows and columns, rounding to 8 bits after each. Pillow 13 begins with the columns
// of tall images; earlier versions always begin with the rows, which may change a value by one.
Plane resized(const Plane& values, int width, int height, Range across, Range down) {
    if (contract::interpolation == "nearest") {
        Plane result;
        const auto columns = nearest_places(across, contract::width);
        for (const int y : nearest_places(down, contract::height)) {
            for (const int x : columns) result.push_back(values[std::size_t(y) * width + x]);
        }
        return result;
    }
    const auto columns = parts_of(width, across, contract::width), rows = parts_of(height, down, contract::height);
    if (height > contract::height && height - contract::height > 2 * (width - contract::width)) {
        return along_rows(along_columns(values, width, rows), width, columns);
    }
    return along_columns(along_rows(values, width, columns), contract::width, rows);
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
