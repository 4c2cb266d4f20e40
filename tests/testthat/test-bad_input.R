# What people give by mistake: an error of patina that names the argument, or the right result.

tissue <- small_tissue(40, 8)
y <- tissue$y
xy <- tissue$coords
genes <- rownames(y)
counts <- withr::with_seed(2, matrix(stats::rnbinom(320, mu = 5, size = 3), 8, dimnames = dimnames(y)))
info <- data.frame(age = 1:40, batch = rep(c("a", "b"), 20), row.names = colnames(y))
se <- if (rlang::is_installed("SummarizedExperiment")) fake_se()

test <- function(x = y, coords = xy, ..., normalization = "none", threads = 1, progress = FALSE) {
  spatial_test(x, coords, ..., normalization = normalization, threads = threads, progress = progress)
}
search <- function(...) {
  model_search(y, xy, ..., normalization = "none", threads = 1, progress = FALSE)
}
patterns <- function(..., n_patterns = 2, lengthscale = 1) {
  spatial_patterns(
    y,
    xy,
    ...,
    n_patterns = n_patterns,
    lengthscale = lengthscale,
    normalization = "none",
    threads = 1,
    progress = FALSE
  )
}
draw <- function(...) plot_genes(counts, xy, ...)
# `x` with one value changed
put <- function(x, at, value) {
  x[at] <- value
  x
}

# Each case is an expression that fails; the error has a class of its own and names the argument.
expect_refused_by_name <- function(arg, ...) {
  for (case in rlang::enexprs(...)) {
    label <- paste(deparse(case), collapse = " ")
    error <- tryCatch(suppressWarnings(eval(case, parent.frame())), error = identity)
    expect_s3_class(error, "patina_error")
    expect_match(class(error)[[1L]], "^patina_error_", label = paste0("class of the error of `", label, "`"))
    said <- if (inherits(error, "condition")) cli::ansi_strip(conditionMessage(error)) else "nothing"
    expect_match(said, paste0("(^|[^a-z_])", arg, "($|[^a-z_])"), label = label)
  }
}

test_that("x", {
  expect_refused_by_name(
    "x",
    test(NULL),
    test("genes.csv"),
    test(list(1, 2)),
    test(1:40),
    test(mean),
    test(NA),
    test(new.env()),
    test(~y),
    test(factor(c("a", "b"))),
    test(y + 1i),
    test(matrix(as.character(y), 8)),
    test(array(1, c(8, 40, 2))),
    test(y[0, ]),
    test(y[, 0]),
    test(y[, 1:39]),
    test(t(y)),
    test(as.data.frame(y)),
    test(as.data.frame(t(y))[0]),
    test(cbind(as.data.frame(t(y)), cluster = "a")),
    test(cbind(as.data.frame(t(y)), when = Sys.time())),
    test(cbind(as.data.frame(t(y)), list = I(as.list(1:40)))),
    test(y[, 1:4], xy[1:4, ]),
    test(y, normalization = "pearson"),
    test(-counts, normalization = "anscombe"),
    test(counts / 2, normalization = "pearson"),
    test(put(counts, cbind(1:8, 3), 0), normalization = "pearson")
  )
})

test_that("assay, and coordinates of a container", {
  skip_if_not_installed("SummarizedExperiment")
  expect_refused_by_name(
    "assay",
    test(se, xy, assay = "missing"),
    test(se, xy, assay = 7),
    test(se, xy, assay = NULL),
    test(se, xy, assay = NA),
    test(se, xy, assay = c("a", "b")),
    test(se, xy, assay = list())
  )
  expect_refused_by_name("coords", test(se, NULL), test(se, c("x", "y")))
  expect_refused_by_name("spe", add_results(y, fake_test()), add_results(NULL, fake_test()))
  expect_refused_by_name(
    "results",
    add_results(se, 3),
    add_results(se, NULL),
    add_results(se, data.frame(a = 1)),
    add_results(se, fake_test()[5:7, ])
  )
})

test_that("coords", {
  expect_refused_by_name(
    "coords",
    test(y, NULL),
    test(y, "x"),
    test(y, TRUE),
    test(y, mean),
    test(y, list(1, 2)),
    test(y, xy[0]),
    test(y, xy[1:10, ]),
    test(y, unname(as.matrix(xy))[1:10, ]),
    test(y, cbind(xy, xy)),
    test(y, cbind(xy, total_umi = 1:40)),
    test(y, xy * 0),
    test(y, as.matrix(xy) + 1i),
    test(y, put(xy, cbind(3, 1), NA)),
    test(y, put(xy, cbind(3, 1), NaN)),
    test(y, put(xy, cbind(3, 1), -Inf)),
    test(y, data.frame(x = rep(letters[1:20], 2), y = 1)),
    test(y, data.frame(x = factor(1:40), y = 1)),
    test(y, data.frame(x = I(as.list(1:40)))),
    test(y, data.frame(x = as.Date("2020-01-01") + 1:40)),
    test(y, put(xy, cbind(rep(1:20, 2), rep(1:2, each = 20)), 1), sample_id = rep(1:2, each = 20))
  )
})

test_that("samples and covariates", {
  expect_refused_by_name(
    "sample_id",
    test(sample_id = "slide"),
    test(sample_id = "slide", sample_info = info),
    test(sample_id = 1:3),
    test(sample_id = c(NA, rep(1, 39))),
    test(sample_id = list(1)),
    test(sample_id = mean),
    test(sample_id = data.frame(a = 1:40))
  )
  expect_refused_by_name("sample", test(sample_id = rep(c("a", "b"), c(38, 2))))
  expect_refused_by_name(
    "sample_info",
    test(sample_info = 3),
    test(sample_info = info[1:10, ]),
    test(sample_info = as.list(info)),
    test(sample_info = tibble::as_tibble(info)[1:10, ]),
    regress_out(y, 3, ~age),
    regress_out(y, info[1:3, ], ~age)
  )
  expect_refused_by_name(
    "covariates",
    test(covariates = "age", sample_info = info),
    test(covariates = y ~ age, sample_info = info),
    test(covariates = TRUE),
    test(covariates = list(~age))
  )
  expect_refused_by_name(
    "formula|~.*",
    test(covariates = ~missing, sample_info = info),
    test(covariates = ~ log(age - 5), sample_info = info),
    test(covariates = ~ age[1:3], sample_info = info),
    test(covariates = ~ stop("no"), sample_info = info),
    test(covariates = ~ put(age, 2, NA), sample_info = info),
    regress_out(y, info, "age"),
    regress_out(y, info, ~missing)
  )
})

test_that("choices", {
  expect_refused_by_name(
    "normalization",
    test(normalization = "log"),
    test(normalization = NULL),
    test(normalization = NA),
    test(normalization = 1),
    test(normalization = c("none", "log")),
    draw(genes = "g1", normalization = "log"),
    draw(genes = "g1", normalization = NULL)
  )
  expect_refused_by_name("pval_method", test(pval_method = "exact"), test(pval_method = NULL))
  expect_refused_by_name(
    "approximation",
    test(approximation = "fast"),
    test(approximation = 3),
    test(approximation = "krylov", kernels = "linear"),
    patterns(genes, approximation = "krylov")
  )
  expect_refused_by_name("probabilities", search(genes, probabilities = "aic"))
  expect_refused_by_name(
    "scale",
    draw(genes = "g1", scale = "log"),
    plot_patterns(fake_patterns(), scale = 1)
  )
  expect_refused_by_name("as", example_tissue(as = "Seurat"))
  expect_refused_by_name(
    "name",
    load_dataset("../../etc/passwd"),
    load_dataset(3),
    load_dataset(NULL)
  )
  expect_refused_by_name(
    "\\.\\.\\.",
    test(treads = 2),
    test(y, xy, 2),
    search(genes, lengthscale = 2),
    patterns(genes, lengthscales = 2)
  )
})

test_that("kernels and lengthscales", {
  expect_refused_by_name(
    "kernels",
    test(kernels = "RBF"),
    test(kernels = NULL),
    test(kernels = 1),
    test(kernels = NA_character_),
    test(kernels = character()),
    search(genes, kernels = "cosine")
  )
  expect_refused_by_name(
    "lengthscales",
    test(lengthscales = -1),
    test(lengthscales = 0),
    test(lengthscales = Inf),
    test(lengthscales = c(1, NA)),
    test(lengthscales = "1"),
    test(lengthscales = TRUE),
    test(lengthscales = list(1)),
    test(lengthscales = numeric()),
    test(lengthscales = 1e-9),
    test(lengthscales = 1e-300),
    search(genes, lengthscales = -1)
  )
  expect_refused_by_name(
    "lengthscale",
    patterns(genes, lengthscale = 0),
    patterns(genes, lengthscale = NA),
    patterns(genes, lengthscale = "a")
  )
})

test_that("how a call runs", {
  expect_refused_by_name(
    "threads",
    test(threads = 0),
    test(threads = -1),
    test(threads = 1.5),
    test(threads = NA),
    test(threads = Inf),
    test(threads = "two"),
    test(threads = c(1, 2))
  )
  expect_refused_by_name("progress", test(progress = NA), test(progress = "yes"), test(progress = NULL))
  skip_if_not_installed("BiocParallel")
  expect_refused_by_name("BPPARAM", test(BPPARAM = 2), test(BPPARAM = "multicore"))
})

test_that("genes and results", {
  all_null <- data.frame(gene = genes, qval = 1)
  expect_refused_by_name(
    "genes",
    search("absent"),
    search(1:2),
    search(TRUE),
    search(NA_character_),
    search(character()),
    search(list()),
    search(data.frame(a = 1)),
    search(data.frame(gene = 1:3)),
    search(data.frame(gene = genes, qval = "0.01")),
    search(all_null),
    patterns("absent"),
    patterns(1:2),
    patterns(all_null[0, ]),
    draw(),
    draw(genes = NULL),
    draw(genes = 3),
    draw(genes = "absent")
  )
  expect_refused_by_name(
    "results",
    plot_test(3),
    plot_test(data.frame()),
    plot_test(fake_test()[0, ]),
    plot_test(transform(fake_test(), log10_pval = "a"))
  )
  expect_refused_by_name("models", plot_test(fake_test(), models = 3))
  expect_refused_by_name("patterns", plot_patterns(3), plot_patterns(list()))
})

test_that("numbers of spatial_patterns()", {
  expect_refused_by_name(
    "n_patterns",
    patterns(genes, n_patterns = 0),
    patterns(genes, n_patterns = 1.5),
    patterns(genes, n_patterns = 99),
    patterns(genes, n_patterns = 1e10),
    patterns(genes, n_patterns = NA),
    patterns(genes, n_patterns = "two"),
    patterns(genes, n_patterns = integer())
  )
  expect_refused_by_name("restarts", patterns(genes, restarts = 0), patterns(genes, restarts = 1e12))
  expect_refused_by_name("seed", patterns(genes, seed = "a"), patterns(genes, seed = NA))
  expect_refused_by_name("tolerance", patterns(genes, tolerance = 0), patterns(genes, tolerance = NA))
  expect_refused_by_name(
    "max_iterations",
    patterns(genes, max_iterations = 0),
    patterns(genes, max_iterations = 1e10)
  )
})

test_that("new locations", {
  fit <- patterns(genes)
  expect_refused_by_name(
    "newcoords",
    stats::predict(fit, 1:3),
    stats::predict(fit, "here"),
    stats::predict(fit, mean),
    stats::predict(fit, list(1, 2)),
    stats::predict(fit, data.frame(x = "a", y = "b")),
    stats::predict(fit, data.frame(x = c(1, NA), y = 1))
  )
  expect_refused_by_name("wide", stats::predict(fit, wide = NA))
  expect_refused_by_name("threads", stats::predict(fit, threads = 0))
  expect_refused_by_name("\\.\\.\\.", stats::predict(fit, places = 3))
})

test_that("the look of pictures", {
  expect_refused_by_name("trim", draw(genes = "g1", trim = 2), draw(genes = "g1", trim = NA))
  expect_refused_by_name("spot_size", draw(genes = "g1", spot_size = -1), draw(genes = "g1", spot_size = "a"))
  expect_refused_by_name("ncol", draw(genes = "g1", ncol = 0))
  expect_refused_by_name(
    "axes",
    draw(genes = "g1", axes = 1),
    draw(genes = "g1", axes = mean),
    draw(genes = "g1", axes = c("x", "z"))
  )
  expect_refused_by_name("n_genes", draw(genes = data.frame(gene = "g1"), n_genes = 0))
  expect_refused_by_name("fdr", plot_test(fake_test(), fdr = 2), plot_test(fake_test(), fdr = "a"))
  expect_refused_by_name("n_labels", plot_test(fake_test(), n_labels = -1))
})

test_that("what stands on its own", {
  expect_refused_by_name("p", qvalues("a"), qvalues(2), qvalues(-1), qvalues(list(1)), qvalues(mean))
  expect_refused_by_name("pi0", qvalues(0.5, pi0 = 0), qvalues(0.5, pi0 = "a"))
  expect_refused_by_name("counts", stabilize(y), stabilize("a"), stabilize(NULL), stabilize(counts * 0))
  expect_refused_by_name("expr", regress_out("a", info, ~age))
  expect_refused_by_name(
    "n_spots",
    example_tissue(3),
    example_tissue(NULL),
    example_tissue(1e10),
    example_tissue(1e6, 1e6)
  )
  expect_refused_by_name("n_genes", example_tissue(n_genes = 0), example_tissue(n_genes = 1e12))
  expect_refused_by_name("seed", example_tissue(seed = "a"), example_tissue(seed = 1e12))
})

test_that("factors, domains, fields and modules", {
  factors <- function(...) spatial_factors(counts, xy, ..., threads = 1, progress = FALSE)
  fit <- suppressMessages(factors(n_factors = 2))
  results <- test()
  expect_refused_by_name("genes", factors("absent"), factors(1:2), gene_correlation(y, xy, "absent"))
  expect_refused_by_name(
    "n_factors",
    factors(n_factors = 0),
    factors(n_factors = 1e9),
    factors(n_factors = "a"),
    factors(n_factors = NA)
  )
  expect_refused_by_name("lengthscale", factors(lengthscale = -1), factors(lengthscale = "a"))
  expect_refused_by_name(
    "\\.\\.\\.",
    factors(seed = 1),
    spatial_domains(fit, seed = 1),
    filter_spots(counts, 3)
  )
  expect_refused_by_name("factors", spatial_domains(3), spatial_domains(NULL), plot_factors(3))
  expect_refused_by_name(
    "n_domains",
    spatial_domains(fit, n_domains = 0),
    spatial_domains(fit, n_domains = 1e6),
    spatial_domains(fit, n_domains = "a")
  )
  expect_refused_by_name(
    "newcoords",
    stats::predict(fit, "a"),
    stats::predict(fit, 1:3),
    stats::predict(fit, data.frame(x = c(1, NA), y = 1)),
    stats::predict(fit, data.frame(x = 1, why = 1)),
    stats::predict(results, y, xy, genes = "g1", newcoords = "a")
  )
  slides <- suppressMessages(factors(n_factors = 2, sample_id = rep(1:2, 20)))
  expect_refused_by_name(
    "sample_id",
    stats::predict(slides, xy),
    stats::predict(slides, xy, sample_id = 3),
    stats::predict(slides, xy, sample_id = mean)
  )
  expect_refused_by_name(
    "x",
    stats::predict(results),
    gene_correlation(3),
    filter_spots(3),
    filter_genes(NULL)
  )
  expect_refused_by_name("coords", gene_correlation(y))
  expect_error(gene_correlation(counts, xy, genes, 1e-9), "lengthscale", class = "patina_error_argument")
  expect_refused_by_name("domains", plot_domains(3))
  expect_refused_by_name("correlation", plot_modules(3))
  expect_refused_by_name("field", plot_gene_field(3))
})

test_that("counts, depth and moments", {
  counted <- function(...) test(counts, ..., normalization = "pearson")
  expect_refused_by_name(
    "size_factors",
    counted(size_factors = "absent"),
    counted(size_factors = -1),
    counted(size_factors = rep(0, 40)),
    counted(size_factors = rep(NA_real_, 40)),
    counted(size_factors = 1:3)
  )
  expect_refused_by_name("depth", counted(depth = "some"), counted(depth = 1))
  expect_refused_by_name(
    "fit",
    counted(fit = "least squares"),
    counted(fit = "moments", pval_method = "spatialde")
  )
  expect_refused_by_name(
    "likelihood_genes",
    counted(likelihood_genes = -1),
    counted(likelihood_genes = "all")
  )
  expect_refused_by_name("pi0", counted(pi0 = 2), counted(pi0 = "a"))
})

test_that("first looks at results", {
  results <- test()
  expect_refused_by_name("n", top_genes(results, n = -1), top_genes(results, n = "a"))
  expect_refused_by_name("results", top_genes(3), patina_report(3))
  expect_refused_by_name("fdr", summary(results, fdr = 2))
  expect_refused_by_name("spe", add_spatial_test(y), add_spatial_test(NULL))
})

test_that("what looks odd and is right", {
  some <- c(0.5, 1, 2)
  plain <- test(lengthscales = some)
  values <- c("status", "llr", "pval")
  same <- function(results) {
    expect_equal(as.list(results)[values], as.list(plain)[values], tolerance = 1e-9)
  }
  # units, origins and orders of coordinates
  for (unit in c(1e-150, 1e-6, 1e6, 1e150)) {
    same(test(y, xy * unit, lengthscales = some * unit))
  }
  same(test(y, xy + 1e6, lengthscales = some))
  same(test(y, -xy[2:1], lengthscales = some))
  same(test(y[, 40:1], lengthscales = some))
  # other ways to say the same
  same(test(y, xy, sample_id = rep("only", 40), lengthscales = some))
  same(test(y, xy, sample_info = info[40:1, ], lengthscales = some))
  same(test(as.matrix(y), as.matrix(xy), lengthscales = some))
  same(test(Matrix::Matrix(y, sparse = TRUE), lengthscales = some))
  same(test(tibble::as_tibble(t(y)), unname_rows(xy), lengthscales = some))
  same(test(kernels = c("SE", "SE"), lengthscales = some))
  same(test(covariates = ~ rep(1, 40), sample_info = info, lengthscales = some))
  # levels of a factor that no spot has
  expect_identical(
    test(sample_id = factor(info$batch, c("a", "b", "none")))[values],
    test(sample_id = info$batch)[values]
  )
  # one bad lengthscale is left out, and the others stay
  expect_warning(both <- test(lengthscales = c(1e-300, 2)), "1e-300", class = "patina_warning_kernels")
  expect_identical(both[values], test(lengthscales = 2)[values])
  # a bad gene keeps its row
  odd <- rbind(y, large = 1e200 * y[1, ], flat = 1, missing = NA, huge = c(1e308, -1e308, rep(0, 38)))
  results <- test(odd, lengthscales = some)
  expect_identical(results$gene, rownames(odd))
  expect_identical(results$status[1:8], plain$status)
  expect_identical(results$status[10:11], c("constant", "non-finite"))
})
