import Foundation

/// What probabilities mean.
struct Answer {
    let probabilities: [Double]
    /// Classes by probability.
    let ranking: [Int]
    /// The classes that are the answer.
    let chosen: [Int]
    /// The prediction set; nil for a model without one.
    let likely: [Int]?
    /// Whether the photo is unlike the images that the model was made for.
    let isUnknown: Bool

    init(probabilities: [Double], contract: Contract) {
        self.probabilities = probabilities
        let ranking = probabilities.indices.sorted {
            probabilities[$0] > probabilities[$1] || (probabilities[$0] == probabilities[$1] && $0 < $1)
        }
        self.ranking = ranking
        chosen = contract.isMultiLabel
            ? ranking.filter { probabilities[$0] >= (contract.thresholds?[$0] ?? 0.5) }
            : Array(ranking.prefix(1))
        likely = contract.setThreshold.map { limit in
            ranking.filter { probabilities[$0] >= limit || (!contract.isMultiLabel && $0 == ranking[0]) }
        }
        // The probabilities of labels give their logits; those of exactly one class do not give the energy.
        isUnknown = contract.unknownThreshold.map { limit in
            let energies = probabilities.map { probability in
                let share = min(max(probability, 1e-7), 1 - 1e-7)
                let logit = (contract.temperature ?? 1) * log(share / (1 - share))
                return max(0, logit) + log1p(exp(-abs(logit)))
            }
            return energies.reduce(0, +) < limit
        } ?? false
    }
}
