// oneDNN's own primitives. Only execute() is timed: primitives, memory objects and arguments are made beforehand, which
// favours it over any binding. Tensors are in the plain layout of the cell. Its forward in training gives mean and
// variance, no running statistics.
//
// Debian's libdnnl-dev (2.6) will do, and version 3, whose constructors name source and destination apart and which
// also has group normalization and, from 3.9 on, RMS.
#include <omp.h>

#include <dnnl.hpp>
#include <unordered_map>

#include "bench/peers/serve.h"

namespace {

using dnnl::memory;
using dnnl::normalization_flags;
using dnnl::primitive;
using dnnl::prop_kind;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

#define SINCE(major, minor) \
  (DNNL_VERSION_MAJOR > (major) || (DNNL_VERSION_MAJOR == (major) && DNNL_VERSION_MINOR >= (minor)))

constexpr float kEps = 1e-5f;

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}
dnnl::stream& stream() {
  static dnnl::stream stream(cpu());
  return stream;
}

// Both versions' descriptions: of a forward, and of the backward that goes with one. SAME is a layout that source and
// destination have, and in a backward their gradients too.
#if SINCE(3, 0)
#define SAME(md) md, md
#define SAME_BACK(md) md, md, md
template <class P, class... A>
typename P::primitive_desc describe(A... a) {
  return typename P::primitive_desc(cpu(), a...);
}
template <class P, class F, class... A>
typename P::primitive_desc describe_back(const F& forward, A... a) {
  return typename P::primitive_desc(cpu(), a..., forward);
}
#else
#define SAME(md) md
#define SAME_BACK(md) md, md
template <class P, class... A>
typename P::primitive_desc describe(A... a) {
  return typename P::primitive_desc(typename P::desc(a...), cpu());
}
template <class P, class F, class... A>
typename P::primitive_desc describe_back(const F& forward, A... a) {
  return typename P::primitive_desc(typename P::desc(a...), cpu(), forward);
}
#endif

memory::desc layout_of(const serve::Cell& c) {
  if (c.by_rows()) return {{c.count() / c.parameters(), c.parameters()}, memory::data_type::f32, Tag::ab};
  const Tag first[] = {Tag::ab, Tag::abc, Tag::abcd, Tag::abcde}, last[] = {Tag::ab, Tag::acb, Tag::acdb, Tag::acdeb};
  const size_t rank = c.shape.size();
  if (rank < 2 || rank > 5) throw std::runtime_error("no such layout");
  return {memory::dims(c.shape.begin(), c.shape.end()), memory::data_type::f32,
          (c.channels_last() ? last : first)[rank - 2]};
}

// One cell: the memory of its arrays, and the primitive that works with them.
class Work {
 public:
  explicit Work(const serve::Cell& c) : c_(c), layout_(layout_of(c)) {
    arguments_ = {{DNNL_ARG_SRC, whole(c.x())}};
    if (c.op != "lrn") arguments_[DNNL_ARG_SCALE] = vector(c.weight());
    if (c.op != "lrn" && c.op != "rmsnorm") arguments_[DNNL_ARG_SHIFT] = vector(c.bias());
    const serve::Array out(c.count());
    result_ = whole(out);
    results_ = {{c.backward() ? "dx" : "y", out}};
  }

  serve::Job job() {
    if (c_.op == "batchnorm") {
      batch_norm();
    } else if (c_.by_rows()) {
      layer_norm();
    } else if (c_.op == "lrn") {
      local_response();
    } else {
      group_norm();
    }
    serve::Job job;
    job.results = results_;
    const char* implementation = "";
    dnnl_primitive_desc_query(primitive_.get_primitive_desc(), dnnl_query_impl_info_str, 0, &implementation);
    job.note = implementation;
    const auto self = std::make_shared<Work>(*this);
    job.run = [self] { self->execute(); };
    if (c_.fresh()) {
      job.run = [self] {
        serve::FreshOutput out(static_cast<size_t>(self->c_.count()));
        Arguments arguments = self->arguments_;
        arguments[self->output()] = memory(self->layout_, cpu(), out.data());
        self->primitive_.execute(stream(), arguments);
        stream().wait();
      };
    }
    return job;
  }

 private:
  using Flags = normalization_flags;

  memory whole(const serve::Array& array) { return keep(layout_, array); }
  memory vector(const serve::Array& array) {
    return keep({{static_cast<long>(array.size())}, memory::data_type::f32, Tag::a}, array);
  }
  memory empty(const memory::desc& layout) {
    return keep(layout, serve::Array((layout.get_size() + sizeof(float) - 1) / sizeof(float)));
  }
  memory keep(const memory::desc& layout, const serve::Array& array) {
    arrays_.push_back(array);
    return memory(layout, cpu(), array.data());
  }
  prop_kind forward_kind() const {
    return c_.mode == "eval" ? prop_kind::forward_inference : prop_kind::forward_training;
  }
  int output() const { return c_.backward() ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST; }
  void execute() {
    primitive_.execute(stream(), arguments_);
    stream().wait();
  }

  // A forward; for backward, once, and then its gradient.
  template <class Forward, class Backward>
  void finish(const Forward& forward, Backward backward) {
    primitive_ = forward;
    arguments_[DNNL_ARG_DST] = result_;
    if (!c_.backward()) return;
    execute();
    primitive_ = backward();
    arguments_.erase(DNNL_ARG_DST);
    arguments_[DNNL_ARG_DIFF_DST] = whole(c_.dy());
    arguments_[DNNL_ARG_DIFF_SRC] = result_;
    gradient(DNNL_ARG_SCALE, DNNL_ARG_DIFF_SCALE, "dweight");
    gradient(DNNL_ARG_SHIFT, DNNL_ARG_DIFF_SHIFT, "dbias");
  }
  void gradient(int of, int argument, const char* name) {
    if (!arguments_.count(of)) return;
    const serve::Array array(static_cast<size_t>(c_.parameters()));
    arguments_[argument] = vector(array);
    results_.push_back({name, array});
  }

  void batch_norm() {
    using Forward = dnnl::batch_normalization_forward;
    using Backward = dnnl::batch_normalization_backward;
    auto flags = Flags::use_scale | Flags::use_shift;
    if (c_.mode == "eval") flags |= Flags::use_global_stats;
    const auto forward = describe<Forward>(forward_kind(), SAME(layout_), kEps, flags);
    arguments_[DNNL_ARG_MEAN] = vector(c_.running_mean());
    arguments_[DNNL_ARG_VARIANCE] = vector(c_.running_var());
    finish(Forward(forward), [&] {
      return Backward(describe_back<Backward>(forward, prop_kind::backward, SAME_BACK(layout_), kEps, flags));
    });
  }

  void layer_norm() {
    using Forward = dnnl::layer_normalization_forward;
    using Backward = dnnl::layer_normalization_backward;
    auto flags = Flags::use_scale | Flags::use_shift;
    if (c_.op == "rmsnorm") {
#if SINCE(3, 9)
      flags = Flags::use_scale | Flags::rms_norm;
#else
      throw std::runtime_error("no RMS in this version");
#endif
    }
    const memory::desc statistics({c_.count() / c_.parameters()}, memory::data_type::f32, Tag::a);
    const auto forward = describe<Forward>(forward_kind(), SAME(layout_), statistics, kEps, flags);
    keep_statistics(statistics);
    finish(Forward(forward), [&] {
      return Backward(
          describe_back<Backward>(forward, prop_kind::backward, SAME_BACK(layout_), statistics, kEps, flags));
    });
  }

  void group_norm() {
#if SINCE(3, 3)
    using Forward = dnnl::group_normalization_forward;
    using Backward = dnnl::group_normalization_backward;
    const long groups = c_.op == "groupnorm" ? c_.param : c_.channels();
    const auto flags = Flags::use_scale | Flags::use_shift;
    const auto forward = describe<Forward>(forward_kind(), SAME(layout_), groups, kEps, flags);
    keep_statistics({{c_.batch(), groups}, memory::data_type::f32, Tag::ab});
    finish(Forward(forward), [&] {
      return Backward(describe_back<Backward>(forward, prop_kind::backward, SAME_BACK(layout_), groups, kEps, flags));
    });
#else
    throw std::runtime_error("no group normalization in this version");
#endif
  }

  void keep_statistics(const memory::desc& layout) {
    if (c_.mode == "eval") return;
    arguments_[DNNL_ARG_MEAN] = empty(layout);
    arguments_[DNNL_ARG_VARIANCE] = empty(layout);
  }

  void local_response() {
    using Forward = dnnl::lrn_forward;
    using Backward = dnnl::lrn_backward;
    constexpr auto across = dnnl::algorithm::lrn_across_channels;
    const auto forward = describe<Forward>(forward_kind(), across, SAME(layout_), c_.param, 1e-4f, 0.75f, 1.0f);
    if (c_.mode != "eval") arguments_[DNNL_ARG_WORKSPACE] = empty(forward.workspace_desc());
    finish(Forward(forward), [&] {
      return Backward(describe_back<Backward>(forward, across, SAME_BACK(layout_), c_.param, 1e-4f, 0.75f, 1.0f));
    });
  }

  serve::Cell c_;
  memory::desc layout_;
  Arguments arguments_;
  memory result_;
  primitive primitive_;
  std::vector<serve::Array> arrays_;  // whose memory the arguments are
  std::vector<std::pair<std::string, serve::Array>> results_;
};

serve::Job prepare(const serve::Cell& c) {
  omp_set_num_threads(c.threads);
  if (c.op == "none" || c.op == "images" || c.op == "statistics") throw std::runtime_error("no such primitive");
  try {
    return Work(c).job();
  } catch (const dnnl::error& error) {
    throw std::runtime_error(error.what());
  }
}

}  // namespace

int main() {
  const dnnl_version_t& v = *dnnl_version();
  const std::string version = std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
  return serve::run("onednn", version, prepare);
}
