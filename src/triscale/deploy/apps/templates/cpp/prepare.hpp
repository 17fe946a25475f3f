// From a photo to the input of the model.
#pragma once

#include <vector>

#include "photo.hpp"

// Return the input [channels, height, width] of the model: the largest centered rectangle of its shape, resized with
// antialiasing as Pillow does, and normalized.
std::vector<float> prepare(const Photo& photo);
