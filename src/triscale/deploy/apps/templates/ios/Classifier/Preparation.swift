import Foundation

private let bits = 22  // fractional bits of filter weights

/// The part of a row that a pixel of the resized row is made of.
private struct Part {
    let first: Int
    let weights: [Int]
}

/// From low to high, with 32 bits, as in Pillow.
private struct Extent {
    let low: Float
    let high: Float
    var span: Double { Double(high - low) }
}

/// Return the input of the model, one array of values from 0 to 255 for each channel: the largest centered rectangle of
/// its shape, resized with antialiasing as Pillow does. The model normalizes.
func prepare(rgba: [UInt8], width: Int, height: Int, contract: Contract) -> [[UInt8]] {
    let divisor = greatestCommonDivisor(contract.width, contract.height)
    let across = contract.width / divisor, down = contract.height / divisor
    let unit = contract.crop * min(Double(width) / Double(across), Double(height) / Double(down))
    let left = (Double(width) - unit * Double(across)) / 2, top = (Double(height) - unit * Double(down)) / 2
    let columns = Extent(low: Float(left), high: Float(left + unit * Double(across)))
    let rows = Extent(low: Float(top), high: Float(top + unit * Double(down)))
    return (0..<contract.channels).map { channel in
        let values = plane(rgba, channel, of: contract.channels)
        return resize(values, width, height, columns, rows, contract)
    }
}

private func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : greatestCommonDivisor(b, a % b) }

private func plane(_ rgba: [UInt8], _ channel: Int, of channels: Int) -> [UInt8] {
    (0..<rgba.count / 4).map { pixel in
        if channels > 1 { return rgba[4 * pixel + channel] }
        let red = Int(rgba[4 * pixel]), green = Int(rgba[4 * pixel + 1]), blue = Int(rgba[4 * pixel + 2])
        return UInt8((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16)
    }
}

private func weight(_ x: Double, _ interpolation: String) -> Double {
    let t = abs(x), a = -0.5
    if interpolation == "bilinear" { return max(0, 1 - t) }
    if t < 1 { return ((a + 2) * t - (a + 3)) * t * t + 1 }
    return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0
}

private func parts(_ size: Int, _ extent: Extent, _ target: Int, _ interpolation: String) -> [Part] {
    let scale = extent.span / Double(target)
    let stretch = max(1, scale)  // antialiasing: the filter grows with the pixels
    let support = (interpolation == "bilinear" ? 1 : 2) * stretch
    return (0..<target).map { index in
        let center = Double(extent.low) + (Double(index) + 0.5) * scale
        let first = max(0, Int(center - support + 0.5)), last = min(size, Int(center + support + 0.5))
        let weights = (first..<last).map { weight((Double($0) - center + 0.5) / stretch, interpolation) }
        let total = weights.reduce(0, +)
        let fixed = weights.map { $0 / total * Double(1 << bits) }
        return Part(first: first, weights: fixed.map { Int($0 + ($0 < 0 ? -0.5 : 0.5)) })
    }
}

private func toByte(_ sum: Int) -> UInt8 { UInt8(max(0, min(255, (sum + (1 << (bits - 1))) >> bits))) }

private func alongRows(_ values: [UInt8], _ width: Int, _ height: Int, _ parts: [Part]) -> [UInt8] {
    var found = [UInt8]()
    found.reserveCapacity(height * parts.count)
    for y in 0..<height {
        for part in parts {
            var sum = 0
            for (offset, weight) in part.weights.enumerated() {
                sum += weight * Int(values[y * width + part.first + offset])
            }
            found.append(toByte(sum))
        }
    }
    return found
}

private func alongColumns(_ values: [UInt8], _ width: Int, _ parts: [Part]) -> [UInt8] {
    var found = [UInt8]()
    found.reserveCapacity(width * parts.count)
    for part in parts {
        for x in 0..<width {
            var sum = 0
            for (offset, weight) in part.weights.enumerated() {
                sum += weight * Int(values[(part.first + offset) * width + x])
            }
            found.append(toByte(sum))
        }
    }
    return found
}

private func places(_ extent: Extent, _ target: Int) -> [Int] {
    let step = extent.span / Double(target)
    var place = Double(extent.low) + step * 0.5
    return (0..<target).map { _ in
        defer { place += step }
        return Int(place)
    }
}

/// Resize a box of one channel along rows and columns, rounding to 8 bits after each. Pillow 13 begins with the columns
/// of tall images; earlier versions always begin with the rows, which may change a value by one.
private func resize(
    _ values: [UInt8], _ width: Int, _ height: Int, _ across: Extent, _ down: Extent, _ contract: Contract
) -> [UInt8] {
    if contract.interpolation == "nearest" {
        let columns = places(across, contract.width)
        return places(down, contract.height).flatMap { y in columns.map { x in values[y * width + x] } }
    }
    let columns = parts(width, across, contract.width, contract.interpolation)
    let rows = parts(height, down, contract.height, contract.interpolation)
    if height > contract.height && height - contract.height > 2 * (width - contract.width) {
        return alongRows(alongColumns(values, width, rows), width, contract.height, columns)
    }
    return alongColumns(alongRows(values, width, height, columns), contract.width, rows)
}
