// OpenVINO in C++, computing in float32. Headers and libraries come with the package for Python:
//   g++ -std=c++17 -O2 on_openvino.cpp -I$SITE/openvino/include -L$SITE/openvino/libs -l:libopenvino.so.2641
// The command line is that of contract.py.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

int main(int count, char** arguments) {
  const std::string model = arguments[1], images = arguments[2], outputs = arguments[3];
  const auto type = images.substr(images.rfind('.') + 1) == "uint8" ? ov::element::u8 : ov::element::f32;
  std::ifstream file(images, std::ios::binary);
  std::vector<char> pixels{std::istreambuf_iterator<char>(file), {}};
  const size_t bytes = 784 * type.size(), total = pixels.size() / bytes;

  ov::Core core;
  auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32),
                                     ov::hint::dynamic_quantization_group_size(0));
  auto request = compiled.create_infer_request();

  std::vector<float> results;
  const auto run = [&](size_t start, size_t size) {
    const size_t batch = std::min(size, total - start);
    request.set_input_tensor(ov::Tensor(type, {batch, 1, 28, 28}, pixels.data() + start * bytes));
    request.infer();
    const auto output = request.get_output_tensor();
    results.insert(results.end(), output.data<float>(), output.data<float>() + output.get_size());
  };
  for (int index = 4; index < count; index++) run(0, std::stoul(arguments[index]));
  results.clear();
  const auto begin = std::chrono::steady_clock::now();
  for (size_t start = 0, index = 4; start < total; index++) {
    const size_t size = std::stoul(arguments[std::min<size_t>(index, count - 1)]);
    run(start, size);
    start += size;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::ofstream(outputs, std::ios::binary)
      .write(reinterpret_cast<char*>(results.data()), results.size() * sizeof(float));
  std::string version = ov::get_openvino_version().buildNumber;
  version = version.substr(0, version.find('-'));
  std::cout << "{\"version\": \"" << version << "\", \"seconds\": " << seconds.count() << "}\n";
}
