#include "photo.hpp"

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

#include <jpeglib.h>
#include <png.h>

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr int gray = 128;

struct Decoded {
    Photo photo;
    int orientation = 1;  // as EXIF numbers it
};

// Return the orientation in EXIF data, which begin with a TIFF header; 1 if there is none.
int orientation_of(const std::uint8_t* data, std::size_t size) {
    if (size < 8) return 1;
    const bool little = data[0] == 'I';
    const auto number = [&](std::size_t at, int bytes) {
        std::uint32_t value = 0;
        for (int i = 0; i < bytes; ++i) value |= std::uint32_t(data[at + i]) << 8 * (little ? i : bytes - 1 - i);
        return value;
    };
    const std::size_t directory = number(4, 4);
    if (directory > size || size - directory < 2) return 1;
    const std::size_t entries = number(directory, 2);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t entry = directory + 2 + 12 * i;
        if (entry + 12 > size) break;
        if (number(entry, 2) == 0x0112) return int(number(entry + 8, 2));
    }
    return 1;
}

Photo turned(const Photo& photo, int orientation) {
    if (orientation < 2 || orientation > 8) return photo;
    Photo result;
    result.width = orientation >= 5 ? photo.height : photo.width;
    result.height = orientation >= 5 ? photo.width : photo.height;
    result.rgb.resize(photo.rgb.size());
    for (int y = 0; y < result.height; ++y) {
        for (int x = 0; x < result.width; ++x) {
            int column = orientation >= 5 ? y : x, row = orientation >= 5 ? x : y;
            if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) column = photo.width - 1 - column;
            if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) row = photo.height - 1 - row;
            std::memcpy(&result.rgb[3 * (std::size_t(y) * result.width + x)],
                        &photo.rgb[3 * (std::size_t(row) * photo.width + column)], 3);
        }
    }
    return result;
}

struct JpegErrors {
    jpeg_error_mgr manager;  // the first member, so that a pointer to it is one to the whole
    std::jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
};

void leave(j_common_ptr decoder) {
    auto* errors = reinterpret_cast<JpegErrors*>(decoder->err);
    decoder->err->format_message(decoder, errors->message);
    std::longjmp(errors->escape, 1);
}

Decoded read_jpeg(const Bytes& content) {
    Decoded result;
    JpegErrors errors;
    jpeg_decompress_struct decoder;
    decoder.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = leave;
    errors.manager.output_message = [](j_common_ptr) {};
    if (setjmp(errors.escape)) {
        jpeg_destroy_decompress(&decoder);
        throw std::runtime_error(errors.message);
    }
    jpeg_create_decompress(&decoder);
    jpeg_mem_src(&decoder, content.data(), content.size());
    jpeg_save_markers(&decoder, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&decoder, TRUE);
    for (jpeg_saved_marker_ptr marker = decoder.marker_list; marker; marker = marker->next) {
        if (marker->data_length > 6 && std::memcmp(marker->data, "Exif\0", 6) == 0) {
            result.orientation = orientation_of(marker->data + 6, marker->data_length - 6);
        }
    }
    if (decoder.num_components == 4) {
        jpeg_destroy_decompress(&decoder);
        throw std::runtime_error("CMYK colors; save it with RGB");
    }
    decoder.out_color_space = JCS_RGB;
    jpeg_start_decompress(&decoder);
    Photo& photo = result.photo;
    photo.width = int(decoder.output_width);
    photo.height = int(decoder.output_height);
    photo.rgb.resize(std::size_t(photo.width) * photo.height * 3);
    while (decoder.output_scanline < decoder.output_height) {
        JSAMPROW row = &photo.rgb[std::size_t(decoder.output_scanline) * photo.width * 3];
        jpeg_read_scanlines(&decoder, &row, 1);
    }
    jpeg_finish_decompress(&decoder);
    jpeg_destroy_decompress(&decoder);
    return result;
}

struct Source {
    const Bytes& content;
    std::size_t at;
};

Decoded read_png(const Bytes& content) {
    Decoded result;
    Source source{content, 0};
    Bytes values;
    std::vector<png_bytep> rows;
    png_structp decoder = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, [](png_structp, png_const_charp) {});
    png_infop info = png_create_info_struct(decoder);
    if (setjmp(png_jmpbuf(decoder))) {
        png_destroy_read_struct(&decoder, &info, nullptr);
        throw std::runtime_error("a damaged PNG file");
    }
    png_set_read_fn(decoder, &source, [](png_structp png, png_bytep target, png_size_t size) {
        auto* from = static_cast<Source*>(png_get_io_ptr(png));
        if (from->content.size() - from->at < size) png_error(png, "the file is truncated");
        std::memcpy(target, from->content.data() + from->at, size);
        from->at += size;
    });
    png_read_info(decoder, info);
    png_set_expand(decoder);
    png_set_strip_16(decoder);
    png_set_gray_to_rgb(decoder);
    png_set_add_alpha(decoder, 255, PNG_FILLER_AFTER);
    png_set_interlace_handling(decoder);
    png_read_update_info(decoder, info);
    Photo& photo = result.photo;
    photo.width = int(png_get_image_width(decoder, info));
    photo.height = int(png_get_image_height(decoder, info));
    values.resize(png_get_rowbytes(decoder, info) * photo.height);
    for (int y = 0; y < photo.height; ++y) rows.push_back(&values[png_get_rowbytes(decoder, info) * y]);
    png_read_image(decoder, rows.data());
    png_read_end(decoder, info);
    png_bytep exif = nullptr;
    png_uint_32 exif_size = 0;
    if (png_get_eXIf_1(decoder, info, &exif_size, &exif)) result.orientation = orientation_of(exif, exif_size);
    png_destroy_read_struct(&decoder, &info, nullptr);
    for (std::size_t i = 0; i < values.size(); i += 4) {
        const int opacity = values[i + 3];
        for (int channel = 0; channel < 3; ++channel) {
            const int sum = values[i + channel] * opacity + gray * (255 - opacity);
            photo.rgb.push_back(std::uint8_t((sum + 127) / 255));
        }
    }
    return result;
}

}  // namespace

Photo read_photo(const std::string& file) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) throw std::runtime_error("cannot be opened");
    const Bytes content{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    const auto begins = [&](const char* signature, std::size_t size) {
        return content.size() > size && std::memcmp(content.data(), signature, size) == 0;
    };
    Decoded decoded;
    if (begins("\xFF\xD8", 2)) {
        decoded = read_jpeg(content);
    } else if (begins("\x89PNG", 4)) {
        decoded = read_png(content);
    } else {
        throw std::runtime_error("neither a JPEG nor a PNG file");
    }
    return turned(decoded.photo, decoded.orientation);
}
