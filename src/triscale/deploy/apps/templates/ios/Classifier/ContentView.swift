import PhotosUI
import SwiftUI

/// One screen: choose a photo, see its most probable classes.
struct ContentView: View {
    private static let shown = 5

    @State private var item: PhotosPickerItem?
    @State private var photo: UIImage?
    @State private var answer: Answer?
    @State private var problem: String?
    private let classifier = Result { try PhotoClassifier() }

    var body: some View {
        ScrollView {
            VStack(alignment: .leading, spacing: 16) {
                PhotosPicker("Choose a photo", selection: $item, matching: .images)
                    .buttonStyle(.borderedProminent)
                if let photo {
                    Image(uiImage: photo).resizable().scaledToFit().frame(maxHeight: 320)
                }
                if let problem {
                    Text(problem).foregroundStyle(.red)
                }
                if let answer, case .success(let classifier) = classifier {
                    scores(answer, classifier.contract)
                }
            }
            .frame(maxWidth: .infinity, alignment: .leading)
            .padding()
        }
        .task(id: item) { await classify() }
    }

    private func scores(_ answer: Answer, _ contract: Contract) -> some View {
        VStack(alignment: .leading, spacing: 12) {
            ForEach(answer.ranking.prefix(Self.shown), id: \.self) { index in
                ProgressView(value: answer.probabilities[index]) {
                    HStack {
                        Text(contract.names[index]).fontWeight(answer.chosen.contains(index) ? .bold : .regular)
                        Spacer()
                        Text(answer.probabilities[index], format: .percent.precision(.fractionLength(1)))
                    }
                }
            }
            if let likely = answer.likely {
                let names = likely.map { contract.names[$0] }.joined(separator: ", ")
                Text((contract.isMultiLabel ? "Labels among: " : "One of: ") + (names.isEmpty ? "none" : names))
            }
            if answer.isUnknown {
                Text("Unknown: unlike the images that the model was made for")
            }
        }
    }

    private func classify() async {
        guard let item else { return }
        (answer, problem) = (nil, nil)
        do {
            guard let data = try await item.loadTransferable(type: Data.self), let image = UIImage(data: data) else {
                problem = "This is not an image that iOS reads."
                return
            }
            photo = image
            let classifier = try self.classifier.get()
            answer = try await Task.detached { try classifier.classify(image) }.value
        } catch {
            problem = error.localizedDescription
        }
    }
}
