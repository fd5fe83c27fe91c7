// The product's own ops, called from C++: what a call from JavaScript costs beyond them is the difference. No peer.
#include "bench/peers/serve.h"
#include "native/dispatch/dispatch.h"
#include "native/ops/backward.h"
#include "native/ops/local_response.h"
#include "native/ops/normalize.h"

namespace simdnorm {
namespace {

// As lib/internal/geometry.ts has it.
Geometry geometry_of(const serve::Cell& c) {
  const size_t n = c.batch(), channels = c.channels(), plane = c.plane(), row = c.parameters();
  if (c.by_rows()) return {c.count() / row, 1, 1, row, 1, row};
  const bool beside = c.channels_last() || plane == 1;
  if (c.op == "batchnorm") {
    if (beside) return {1, n * plane, channels, 1, 1, channels};
    return {1, n, channels, plane, plane, channels};
  }
  const size_t groups = c.op == "groupnorm" ? c.param : channels, each = channels / groups;
  if (beside) return {n, plane, groups, each, 1, channels};
  return {n, 1, groups, each * plane, plane, channels};
}

serve::Job window_job(const serve::Cell& c, const Kernels<float>& k) {
  const size_t size = c.param, n = c.batch(), plane = c.plane();
  const ChannelWindow window = {c.channels_last() ? n * plane : n,
                                static_cast<size_t>(c.channels()),
                                c.channels_last() ? 1 : plane,
                                size / 2,
                                (size - 1) / 2,
                                {1, 1e-4 / static_cast<double>(size), 0.75}};
  const serve::Array x = c.x(), out(x.size()), dy = c.backward() ? c.dy() : serve::Array();
  serve::Job job;
  job.results = {{c.backward() ? "dx" : "y", out}};
  if (c.backward()) {
    job.run = [=, &k] { local_response_backward<float>(k, window, dy.data(), x.data(), out.data()); };
  } else {
    job.run = [=, &k] { local_response<float>(k, window, x.data(), out.data()); };
  }
  return job;
}

serve::Job prepare(const serve::Cell& c) {
  parallel::set_threads(c.threads);
  const Kernels<float>& k = dispatch::active().of(float());
  if (c.fresh()) throw std::runtime_error("ops make no output");
  if (c.op == "images" || c.op == "statistics") throw std::runtime_error("norms only");
  if (c.op == "none") return {[] {}, {}, ""};
  if (c.op == "lrn") return window_job(c, k);

  const Geometry g = geometry_of(c);
  const bool tracked = c.op == "batchnorm", rms = c.op == "rmsnorm";
  const serve::Array x = c.x(), out(x.size()), weight = c.weight(), bias = rms ? serve::Array() : c.bias();
  const serve::Array mean = tracked ? c.running_mean() : serve::Array();
  const serve::Array var = tracked ? c.running_var() : serve::Array();
  const auto saved = std::make_shared<std::vector<Statistic>>(g.statistics());

  Normalize<float> forward = {};
  forward.g = g;
  forward.rule = {1e-5, rms ? About::kZero : About::kMean, tracked || c.op == "instancenorm"};
  forward.x = x.data();
  forward.y = out.data();
  forward.weight = weight.data();
  forward.bias = bias.data();
  forward.use_running = tracked && c.mode == "eval";
  forward.saved = c.mode == "eval" ? nullptr : saved->data();
  forward.momentum = 0.1;
  forward.running_mean = mean.data();
  forward.running_var = var.data();
  const auto keep = [=](std::function<void()> run, std::vector<std::pair<std::string, serve::Array>> results) {
    return serve::Job{[=] { (void)x, (void)weight, (void)bias, (void)mean, (void)var, (void)saved, run(); }, results,
                      dispatch::active().name};
  };
  if (!c.backward()) {
    std::vector<std::pair<std::string, serve::Array>> results = {{"y", out}};
    if (tracked && c.mode == "train") results.insert(results.end(), {{"runningMean", mean}, {"runningVar", var}});
    return keep([=, &k] { normalize<float>(k, forward); }, results);
  }
  normalize<float>(k, forward);
  const serve::Array dy = c.dy(), dweight(weight.size()), dbias(bias.size());
  Backward<float> back = {};
  back.g = g;
  back.about = forward.rule.about;
  back.dy = dy.data();
  back.x = x.data();
  back.dx = out.data();
  back.weight = weight.data();
  back.saved = saved->data();
  back.dweight = dweight.data();
  back.dbias = dbias.data();
  std::vector<std::pair<std::string, serve::Array>> results = {{"dx", out}, {"dweight", dweight}};
  if (!rms) results.push_back({"dbias", dbias});
  return keep([=, &k] { (void)dy, backward<float>(k, back); }, results);
}

}  // namespace
}  // namespace simdnorm

int main() {
  const char* const isa = getenv("SIMDNORM_ISA");
  for (size_t i = 0; isa && i < simdnorm::dispatch::count(); i++) {
    if (isa == std::string(simdnorm::dispatch::table(i).name) && !simdnorm::dispatch::use(i)) return 1;
  }
  return serve::run("ops", simdnorm::dispatch::active().name, simdnorm::prepare);
}
