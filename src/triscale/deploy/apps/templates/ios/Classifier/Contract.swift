import Foundation

/// What the input and the outputs of the model are: model.json.
struct Contract: Decodable {
    let names: [String]
    let inputSize: [Int]
    let crop: Double
    let interpolation: String
    let activation: String
    let thresholds: [Double]?
    let temperature: Double?
    let setThreshold: Double?
    let unknownThreshold: Double?

    var channels: Int { inputSize[0] }
    var height: Int { inputSize[1] }
    var width: Int { inputSize[2] }
    var isMultiLabel: Bool { activation == "sigmoid" }

    static func load() throws -> Contract {
        guard let file = Bundle.main.url(forResource: "model", withExtension: "json") else {
            throw CocoaError(.fileNoSuchFile)
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Contract.self, from: Data(contentsOf: file))
    }
}
