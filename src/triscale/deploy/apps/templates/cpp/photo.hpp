// Read JPEG and PNG files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Photo {
    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> rgb;  // height * width * 3
};

// Return a photo upright, in RGB; transparent pixels show a mid-gray background. Throws std::runtime_error.
Photo read_photo(const std::string& file);
