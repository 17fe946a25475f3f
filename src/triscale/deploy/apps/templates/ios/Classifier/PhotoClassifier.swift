import CoreML
import UIKit

/// The model with its contract.
final class PhotoClassifier: @unchecked Sendable {
    let contract: Contract
    private let model: MLModel

    init() throws {
        contract = try Contract.load()
        guard let file = Bundle.main.url(forResource: "model", withExtension: "mlmodelc") else {
            throw CocoaError(.fileNoSuchFile)
        }
        model = try MLModel(contentsOf: file)
    }

    func classify(_ image: UIImage) throws -> Answer {
        let (rgba, width, height) = try pixels(of: image)
        let planes = prepare(rgba: rgba, width: width, height: height, contract: contract)
        let input = MLFeatureValue(pixelBuffer: try buffer(of: planes))
        let outputs = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: ["image": input]))
        return Answer(probabilities: try probabilities(in: outputs), contract: contract)
    }

    private func probabilities(in outputs: MLFeatureProvider) throws -> [Double] {
        if let listed = outputs.featureValue(for: "classLabel_probs")?.dictionaryValue {
            return contract.names.map { listed[$0]?.doubleValue ?? 0 }
        }
        guard let array = outputs.featureValue(for: "probabilities")?.multiArrayValue else {
            throw CocoaError(.featureUnsupported)
        }
        return (0..<array.count).map { array[$0].doubleValue }
    }

    /// Return the upright photo as RGBA; transparent pixels show a mid-gray background.
    private func pixels(of image: UIImage) throws -> ([UInt8], Int, Int) {
        let width = Int((image.size.width * image.scale).rounded())
        let height = Int((image.size.height * image.scale).rounded())
        var values = [UInt8](repeating: 0, count: 4 * width * height)
        try values.withUnsafeMutableBytes { memory in
            guard
                let space = CGColorSpace(name: CGColorSpace.sRGB),
                let context = CGContext(
                    data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8,
                    bytesPerRow: 4 * width, space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { throw CocoaError(.featureUnsupported) }
            let whole = CGRect(x: 0, y: 0, width: width, height: height)
            context.setFillColor(red: 128 / 255, green: 128 / 255, blue: 128 / 255, alpha: 1)
            context.fill(whole)
            // UIKit draws from the top and turns the image upright.
            context.translateBy(x: 0, y: CGFloat(height))
            context.scaleBy(x: 1, y: -1)
            UIGraphicsPushContext(context)
            image.draw(in: whole)
            UIGraphicsPopContext()
        }
        return (values, width, height)
    }

    /// Return the input of the model as the pixel buffer that Core ML takes: gray or BGRA.
    private func buffer(of planes: [[UInt8]]) throws -> CVPixelBuffer {
        let isGray = planes.count == 1
        let format = isGray ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
        var made: CVPixelBuffer?
        CVPixelBufferCreate(nil, contract.width, contract.height, format, nil, &made)
        guard let made else { throw CocoaError(.featureUnsupported) }
        CVPixelBufferLockBaseAddress(made, [])
        defer { CVPixelBufferUnlockBaseAddress(made, []) }
        guard let base = CVPixelBufferGetBaseAddress(made) else { throw CocoaError(.featureUnsupported) }
        let memory = base.assumingMemoryBound(to: UInt8.self)
        let bytesPerRow = CVPixelBufferGetBytesPerRow(made)
        for y in 0..<contract.height {
            for x in 0..<contract.width {
                let index = y * contract.width + x
                if isGray {
                    memory[y * bytesPerRow + x] = planes[0][index]
                    continue
                }
                let pixel = memory + y * bytesPerRow + 4 * x
                (pixel[0], pixel[1], pixel[2], pixel[3]) = (planes[2][index], planes[1][index], planes[0][index], 255)
            }
        }
        return made
    }
}
