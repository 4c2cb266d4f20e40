#' Test genes for expression that depends on position
#'
#' SpatialDE's Gaussian process test: for each gene, a model with a spatial part (one of several
#' kernels) is compared with a model without.
#'
#' @section Model:
#' A gene's expression at n locations is `y = mean + f + e` with a spatial part `f ~ N(0, s2 K)` and
#' noise `e ~ N(0, s2 delta I)`. For each kernel K the likelihood is maximised over the whole of
#' log(delta) in -10..20, and the best kernel is reported. With several samples (slides) each has its
#' own mean and its own independent spatial part, while lengthscale, delta and variances are shared.
#'
#' `fsv` is the fraction of a gene's variance that its spatial part has in common with other spots. What
#' f at a spot has for itself, given f everywhere else, no data can tell from noise, and counts as
#' noise: nearly all of a kernel of half a spacing, 37 % of one of .8, 1 % of one of 1.3, nothing above.
#' (With `pval_method = "spatialde"` it counts as spatial, as in SpatialDE, where genes without any
#' pattern reach an `fsv` of 1.) The interval `fsv_lower` to `fsv_upper` has all fractions that some
#' kernel and delta reach with a log likelihood at most 3.0 below the maximum (a 95 % region of
#' lengthscale and delta together). It is that of Gaussian noise: for genes in a handful of spots,
#' whatever their `fsv`, the p-value is the judge.
#'
#' @section Kernels:
#' By default `kernels = "SE"` over lengthscales from half the spacing (the median distance of a spot to
#' its nearest neighbour) to twice the largest distance of two spots of a sample, log-spaced, neighbours
#' at most a factor of 2 apart: 10 of them up to some thousand spots, 14 for a million. Distances of 0
#' do not count, and a few pairs that are far closer than most change nothing. `lengthscales =
#' "spatialde"` gives SpatialDE's ten, which start at half the smallest distance, for all kernels; it is
#' the default of `pval_method = "spatialde"`.
#'
#' The periods of `"PER"` start at two spacings, the shortest that such spots can show. Two periods of a
#' tissue can be told apart if their frequencies differ by the inverse of its width; so many of them are
#' tried, at most 22, and above them periods a factor of 2 apart. `"SE"` alone finds stripes of six
#' spacings and more; `c("SE", "PER")` those of two to four as well, at the price of some power for
#' smooth patterns (see the article "P-values").
#'
#' @section P-values:
#' `"calibrated"` p-values are uniform when the locations are permuted, for rich and for sparse genes
#' and in the tail. They come from quadratic forms of the expression (the score of each kernel, and the
#' likelihood's own form at delta = 3), whose first three moments under permutation are known exactly,
#' joined by the Cauchy combination. No random numbers are involved. Kernels that only a few pairs of
#' spots can tell from noise, such as lengthscales below most distances, weigh little, and do not count
#' for a gene whose few large values are not expected to meet on one of those pairs. For kernels up to
#' about a spacing (over 20 spots and more) the lower tail of the score counts, too, with a twentieth of the
#' weight: genes whose neighbours differ, in fine stripes, like a checkerboard, or because cells of a kind
#' keep apart. Their `fsv` is 0.
#'
#' `"spatialde"` p-values are those of SpatialDE: the upper tail of a chi-squared distribution with one
#' degree of freedom at the log likelihood ratio. They are known to be conservative by far for most
#' genes, and are meant for comparison.
#'
#' What no permutation of locations can see is a cause that is itself spatial: above all depth, the
#' number of counts that a spot yields. `normalization` is there to take its influence out. Cell types,
#' batches within a slide and damaged tissue stay in, unless `covariates` name them.
#'
#' @section Normalization:
#' - `"pearson"`, for counts: residuals (x - mu) / sqrt(mu + phi mu²) of a negative binomial model, clipped at
#'   sqrt(n). The expected count mu is the gene's share times the spot's size factor; phi, shared by all
#'   genes, is the mean of the genes' own overdispersions. What genes have of depth beyond mu is taken out as
#'   `depth` says.
#' - `"anscombe"`, for counts: SpatialDE's preparation. [stabilize()], then log(total counts), or the
#'   `covariates`, regressed out. The way to SpatialDE's own numbers.
#' - `"none"`: `x` is already on the scale to be tested; only `covariates`, if given, are regressed out.
#'
#' `"pearson"` is the default because it keeps its level where depth varies smoothly over the tissue, as
#' it mostly does. The logarithm of counts is no linear function of the logarithm of depth where counts
#' are low, so `"anscombe"` leaves a part of depth in every gene: in simulated tissues without a single
#' spatial gene, 19 % (260 spots) to 86 % (1,000 spots) of the genes with 200 counts and more have p-values
#' below 0.05. Where depth is not spatial either keeps its level.
#'
#' @section Size factors:
#' `"robust"`: totals in which a gene of mean m counts with the weight 1 / (1 + phi_g m). Its overdispersion
#' phi_g is taken over spots and over patches of 16 to 31 neighbours, whichever is more, so that a gene with a
#' pattern of its own counts little, and one that dominates some spots next to nothing.
#'
#' If the totals of a panel (below 500 genes) vary smoothly, while at least a tenth of its genes do not follow
#' them, that variation is which genes were chosen, not depth: the size factors then come from those genes
#' alone, with a message. A panel nearly all of whose genes (nine tenths, say) are markers of one region looks
#' the same as depth: give `size_factors` from something else, such as the volume of cells, or `"none"`.
#'
#' Where `x` is a subset of the genes, its counts tell more of which genes were chosen than of depth. If the
#' sample table has a column `total_counts` that says of more counts than those in `x`, these totals are the
#' size factors by default; or, if `x` has fewer than 5,000 genes, the column `sizeFactor` of an object's
#' colData (as `sizeFactors()` sets it). Either is said in a message.
#'
#' @section Depth:
#' Genes follow depth with exponents of their own, near 1. If all are taken to be proportional to it
#' (`"offset"`), a gene with another exponent is spatial where depth is; a `"regression"` on log(size factor)
#' takes away whatever signal goes along with depth. `"shrunk"` takes as much as the data leave open. Depth is
#' split into a smooth part (a linear function of the coordinates in each patch) and the rest, which no smooth
#' signal can enter. The rest tells each gene's exponent, with an error; over genes exponents have the
#' standard deviation tau around 1; and from both follows what is likely of the gene's exponent, which is
#' taken out, and how uncertain that is, which is allowed for along the smooth part of depth. tau is the
#' lesser of what the rest (plus one standard error) and the middle of the genes in the smooth part say, and
#' at most 0.5. Several samples share a gene's exponent. A message, the header and `attr(x, "patina")$depth`
#' tell what was found.
#'
#' Spots with less than a tenth of the median size factor have residuals and leverage as if they had so much,
#' and those of hardly any counts are named in a warning; [filter_spots()] leaves them out.
#'
#' @section q-values:
#' With fewer than 1,000 p-values, or fewer than 20 above 0.89, the share pi0 of genes without a pattern
#' cannot be told well: q-values are then Benjamini and Hochberg's (pi0 = 1). Otherwise pi0 is estimated
#' ([qvalues()]), as it always is with `pval_method = "spatialde"`. The header and `attr(x, "patina")$qvalues`
#' tell which.
#'
#' @section Large tissues:
#' `approximation` says how the kernels' matrices are brought into a form that the likelihood can use.
#' - `"exact"`: a dense eigendecomposition. O(n³) time and O(n²) memory: for each kernel about 20 seconds
#'   and 130 MB with 4,000 spots.
#' - `"pivoted_cholesky"`: a low-rank factor that leaves at most a share of 1e-11 of the matrix's trace. With
#'   4,000 spots, log likelihood ratios up to 2,200 were within 0.02 of the exact ones. The rank is small for
#'   long lengthscales, and close to the number of spots below 3 spacings. (A spacing is the median distance
#'   of a spot to its nearest neighbour.) A `"PER"` kernel, which has negative eigenvalues, gets the engine
#'   `"landmarks"` instead: the eigenvalues in the space that its columns at some spots span, with what is
#'   missing measured by random vectors.
#' - `"krylov"`: Lanczos quadrature on a sparse matrix, gene by gene, for short lengthscales. It goes on until
#'   a lower and an upper bound of the gene's log likelihood are within 0.01 of each other, at most 240 steps
#'   up to 1.25 spacings and 45 above, where deltas below about 0.4 are out of reach; the log determinant is
#'   known to 0.02. A gene for which that is not enough has the status `"not converged"`. SE and matern32
#'   kernels only, and only their scores go into p-values. Where a kernel is so wide that a dense
#'   decomposition would be cheaper (from about a twelfth of the tissue's side on), and up to 30 spots, that
#'   is what it gets; above 5,000 spots it is an error.
#' - `"grid"`: quadratic forms alone, without likelihoods, for any number of spots up to 10 million: sums over
#'   near spots for short lengthscales, Fourier transforms on regular meshes (as a non-uniform fast Fourier
#'   transform) for the others. A form is right to about 1e-6 of its standard deviation. SE kernels only. In
#'   place of the likelihood's forms at a finite ratio of noise to signal there are filters of the same shape,
#'   with moments of their own, and log p-values within a tenth of those that likelihoods' forms give. Sparse
#'   counts stay sparse, whatever the normalization: their residuals are combinations of few functions that
#'   all genes share, plus what the counts add. With 100,000 spots, 1,000 genes with 8 % of non-zero counts
#'   take half a minute of one core, two thirds of it to prepare.
#' - `"auto"`: up to 1,000 spots always `"exact"`. Up to 5,000 spots `"krylov"` up to 1.25 spacings (the few
#'   genes for which it does not converge are tested again, `"exact"`); `"pivoted_cholesky"` from 3 spacings
#'   on and for the linear kernel, if the rank stays below half the number of spots; otherwise `"exact"`.
#'   Above, `"pivoted_cholesky"` where the rank is affordable (5,000), otherwise `"krylov"`; between the two,
#'   where neither will do, factors that leave up to 1e-7 of the trace. Rough kernels (`"matern32"`) that are
#'   too wide for `"krylov"` are `"exact"` up to 10,000 spots: minutes and up to 800 MB for each of them.
#'   Periods of the PER kernel from about a tenth of the side on are `"interpolated"` there, shorter ones have
#'   `"landmarks"`, and those that are too short (below about 4 spacings with 6,000 spots) are left out, with
#'   a warning. Above 5,000 spots p-values of SE kernels come from the forms of `"grid"`, whatever has the
#'   likelihood. From 20,000 spots on `"grid"` for SE kernels, unless `fit` asks for likelihoods; then, and
#'   for PER kernels, `"interpolated"`.
#' - `"interpolated"`, which `"auto"` chooses, cannot be asked for: smooth kernels are interpolated from the
#'   nodes of a lattice, six in each direction, with steps of 2/5 of a lengthscale or a tenth of a period
#'   (structured kernel interpolation). Entries of the kernel are then off by up to 5e-4, in three dimensions
#'   by 1.5e-3; log likelihood ratios up to 1,700 were within 1e-4 of the exact ones. Kernels too short for
#'   one lattice over the tissue (below about a 25th of its side) have one in each tile of 8 to 40
#'   lengthscales, and tiles are independent: log likelihood ratios were 1 to 5 % too low with tiles of 8
#'   lengthscales. Up to 1.25 spacings `"krylov"`. What is left, periods below about a twelfth of the side
#'   and rough kernels that are wide, is left out, with a warning.
#'
#' `fit` says what a gene's lengthscale, variances and `fsv` come from.
#' - `"likelihood"`: its maximum, over all kernels and all ratios of noise to signal.
#' - `"moments"`: the score forms, of which p-values are made, too. The variance of a kernel is its form's
#'   excess over the mean without a signal, over its expectation for a variance of 1 (Haseman-Elston
#'   regression over kernels); the kernel whose excess is the largest in standard deviations is the gene's.
#'   No likelihood is computed, so `llr`, `loglik`, `bic` and `fsv_se` are `NA`.
#' - `"auto"`: likelihoods below 20,000 spots, moments from there on; likelihoods where `approximation` or
#'   `pval_method` need them.
#'
#' `likelihood_genes` gives the best of the significant genes the likelihood's maximum, where moments serve
#' the others; their p-values stay. The kernels are prepared once more for that, which is what it costs: one
#' or two minutes with 100,000 spots, however few the genes.
#'
#' The attribute `patina` of the result tells what was done: `attr(x, "patina")$kernels` has, for each kernel,
#' `model`, `lengthscale`, `engine` (`"dense"` for `"exact"`), `rank` (eigenvalues kept; for `"krylov"` the
#' number of spots) and `error_bound`: about the largest error of a log likelihood ratio at delta = 1. It
#' grows as 1 / delta.
#'
#' A gene with the status `"not converged"` has a best kernel whose log likelihood ratio may be off by more
#' than 0.03 and 1e-4 of itself. Such genes are strongly spatial, with little noise. All that belongs to the
#' fit (`model`, `lengthscale`, `fsv`, `llr`, variances, ...) is `NA` then, instead of a number in doubt;
#' the calibrated p-value does not depend on the fit, and stays. To fit such genes all the same, test them
#' alone with the longer `lengthscales` only, or with `"pivoted_cholesky"` or `"exact"` if memory and time
#' allow.
#'
#' @section Spots at the same place:
#' Several spots may share their coordinates (within a sample, up to a thousandth of the mean distance
#' of spots); a message says how many do. Repeated measurements of a place, such as replicates of a time
#' course, are what the model expects: one spatial value, and noise of their own. Coordinates that were
#' rounded are harmless likewise. Copies are not: a spot that is in the table twice, with the same
#' expression, confirms itself, and with every spot given twice every gene is significant. So copies
#' count once, with a warning of class `patina_warning_copied_spots`. Spots of one place that have noise
#' in common and are not equal, such as parts of one measurement, should be added up or averaged first.
#'
#' @section SpatialDE's names:
#' | patina | SpatialDE |
#' | --- | --- |
#' | gene, lengthscale, fsv, delta, loglik, bic, pval, qval | g, l, FSV, max_delta, max_ll, BIC, pval, qval
#' |
#' | llr | LLR, without SpatialDE's excess of about 1 / (4 n) |
#' | loglik_null | max_ll_null, which has n - 1 in the variance's denominator |
#' | mean | max_mu_hat |
#' | var_spatial, var_noise | max_s2_t_hat × Gower factor, max_s2_t_hat × max_delta |
#' | fsv_se | the square root of what s2_FSV is meant to be |
#'
#' @section Containers:
#' - **SpatialExperiment** and what inherits from it: counts of the assay `counts`, locations of
#'   `spatialCoords`, samples of `sample_id`. Polygons of a SpatialFeatureExperiment are not used, a message
#'   says so. A SingleCellExperiment whose coordinates are a `reducedDim`: `coords = "spatial"`.
#' - **Seurat** objects (SeuratObject 4 and 5): the layer (or slot) `counts` of the assay that the images
#'   belong to; `assay` and `layer` choose others. A layer that is split (`counts.1`, `counts.2`) is joined as
#'   it is read. Cells are placed by their names in `GetTissueCoordinates()`, in full resolution: by centroids
#'   where outlines are the default. Several images (fields of view) are samples, `image` (or `fov`) chooses
#'   among them; cells in none are left out, with a message.
#' - **AnnData** files: the path, `"file.h5ad"`. `layers["counts"]` if there is one, else `X`; `layer` chooses
#'   others. Locations are `obsm["spatial"]`; covariates and `sample_id` come from `obs`. Stored by gene (CSC)
#'   or dense, values stay in the file and are read in blocks; stored by spot (CSR), they are read once, into
#'   a sparse matrix. Needs the package rhdf5, for dense files HDF5Array too.
#'
#' [add_results()] puts results back into each of them; [add_spatial_test()] does both in one call.
#'
#' @param x Expression: a data.frame with spots in rows and genes in columns; a matrix, sparse Matrix
#'   or DelayedMatrix with genes in rows and spots in columns; a SummarizedExperiment, SingleCellExperiment or
#'   SpatialExperiment; a Seurat object; the path of an AnnData file (`.h5ad`); or one of [load_dataset()]'s
#'   data sets. See Containers in [spatial_test()].
#' @param coords Locations: one row for each spot, 1 to 3 numeric columns, in any unit. Spot names are matched
#'   if both sides have them. Not needed if `x` carries its own. Then also what they are called there: columns
#'   of the table of spots (`c("array_row", "array_col")`), or a matrix of spots (a `reducedDim`, a name in
#'   `obsm`).
#' @param ... For Seurat objects and AnnData files `layer`, for Seurat objects `image` (or `fov`): names; see
#'   Containers in [spatial_test()]. Nothing else.
#' @param normalization What is done to `x` first: `"pearson"` (counts; the default, because it keeps
#'   differences in depth out of the result), `"anscombe"` (counts; as SpatialDE did) or `"none"` (values
#'   that are ready to be tested). More under Normalization in [spatial_test()].
#' @param covariates A one-sided formula over `sample_info` (or the colData) of what is to be regressed
#'   out. `total_counts` is available for counts even if the table lacks it. Unless `depth` says otherwise
#'   they take the place of what would be done about depth: `~ 1` leaves genes proportional to it,
#'   `~ log(total_counts)` is the plain regression.
#' @param size_factors How much each spot yields, for counts: `"robust"` (the default with `"pearson"`),
#'   `"total"` (total counts), `"none"` (all the same), the name of a column of `sample_info` (or the
#'   colData), or a positive number for each spot. More under Size factors in [spatial_test()].
#' @param depth What is done about genes that are not proportional to the size factors, with `"pearson"`:
#'   `"shrunk"` (slopes as free as the data leave them), `"regression"` (on the logarithm of the size factors)
#'   or `"offset"` (nothing). `"auto"` is `"shrunk"`, or `"offset"` if there are `covariates`. More under
#'   Depth in [spatial_test()].
#' @param kernels Which kernels to try: `"SE"` (squared exponential), `"PER"` (cosine), `"linear"`,
#'   `"matern32"` (Matérn of order 3/2: like SE, but rough, as where borders are sharp).
#' @param lengthscales Lengthscales of the SE and Matérn kernels and periods of the cosine, in units of
#'   `coords`; `"spatialde"` for SpatialDE's. By default chosen by the distances between spots; see Kernels in
#'   [spatial_test()].
#' @param pval_method `"calibrated"` or `"spatialde"`; see below.
#' @param pi0 The share of genes without a spatial pattern, for q-values; by default estimated where that can
#'   be done. See q-values.
#' @param approximation How kernels over many spots are decomposed: `"auto"` (the way that suits the kernel
#'   and the number of spots; up to 1,000 of them always the exact one), `"exact"`, `"pivoted_cholesky"`,
#'   `"krylov"` or, for [spatial_test()] only, `"grid"`. See Large tissues in [spatial_test()].
#' @param fit What lengthscale and variances come from: `"likelihood"`, `"moments"`, or `"auto"`, which takes
#'   moments from 20,000 spots on. See Large tissues.
#' @param likelihood_genes Where moments are what genes are fitted by: how many of them get the likelihood's
#'   maximum all the same, the significant ones (q-values below 0.05), best first; `Inf` for all of these.
#'   None by default. See Large tissues.
#' @param assay The assay to take from a SummarizedExperiment or Seurat object, or the layer of an AnnData
#'   file.
#' @param sample_info A data.frame with a row for each spot, for `covariates` and `sample_id`; for a
#'   SummarizedExperiment its colData by default.
#' @param sample_id Which sample (slide) each spot belongs to: the name of a column of `sample_info`, or a
#'   vector. A SpatialExperiment's own `sample_id` by default.
#' @param threads Number of threads; by default `getOption("patina.threads")`, else all cores, and never
#'   more than those. Results do not depend on it.
#' @param BPPARAM A parameter object of BiocParallel, to test blocks of genes in other processes or on a
#'   cluster: [BiocParallel::SnowParam()], [BiocParallel::MulticoreParam()], [BiocParallel::BatchtoolsParam()]
#'   and the like. `threads` are divided among its workers; on other machines each worker is bounded by the
#'   cores of its own. The kernels are decomposed once and handed over in a file, in a folder below
#'   `getOption("patina.tempdir")` (by default that of the session; workers on other machines must see it),
#'   which is removed at the end. Nobody else can open that folder; see Files in [patina-package]. Results do
#'   not depend on it. On one machine `threads` alone is faster.
#' @param progress Whether to show a progress bar.
#'
#' @returns A tibble with one row for each gene of `x`, in the same order:
#' \describe{
#'   \item{gene}{name}
#'   \item{status}{`"ok"`, or why the gene was not tested: `"constant"`, `"all-zero"`, `"non-finite"`,
#'     `"explained"` (by the covariates: what they leave of it is nothing but rounding errors); its other
#'     columns are then `NA`; `"failed"`: its values could not be read, or its worker died, with a warning.
#'     `"no p-value"`: too few spots for one; `"not converged"`: its fit is not known well enough and `NA`,
#'     but it has a p-value, see Large tissues; `"few counts"`: fewer than 3 in all spots together, so that
#'     its p-value holds while `fsv` and variances mean little (with `"pearson"`)}
#'   \item{lengthscale}{of the best kernel (or its period), in units of `coords`}
#'   \item{fsv}{fraction of variance that is spatial, 0 to 1}
#'   \item{llr}{log likelihood ratio of the best kernel and no spatial part, 0 or more}
#'   \item{pval, qval}{p-value (never 0) and q-value ([qvalues()])}
#'   \item{rank}{1 for the smallest p-value, also where `pval` would underflow}
#'   \item{n}{number of spots, without copies}
#'   \item{model}{the best kernel}
#'   \item{fsv_se}{the standard error of `fsv` (delta method); `NA` where delta is at the end of its range}
#'   \item{fsv_lower, fsv_upper}{its 95 % interval, see Model}
#'   \item{log10_pval}{decadic logarithm of the p-value, also where `pval` would underflow}
#'   \item{delta}{ratio of noise to spatial variance}
#'   \item{mean}{mean, by generalised least squares}
#'   \item{var_spatial, var_noise}{variance of the two parts; `fsv` is the share of the first}
#'   \item{loglik, loglik_null, bic}{maximised log likelihood with and without spatial part, and the
#'     first one's Bayesian information criterion}
#'   \item{fit}{`"likelihood"` or `"moments"`: what the row's lengthscale, `fsv` and variances come from; with
#'     moments `llr`, `fsv_se` and the columns of likelihoods are `NA`}
#' }
#' Its attribute `patina` records the kernels, the method and the normalization; what is known of depth
#' (`depth`: its fsv, `phi`, `tau`, the size factors' kind and quantiles) and of q-values (`qvalues`:
#' `method`, `pi0`); [summary()][summary.patina_test] and [top_genes()] are the first looks at it.
#'
#' @section Errors:
#' All errors are of class `patina_error`; input that cannot be read, coordinates that do not fit and names
#' that do not match have the subclasses `patina_error_input`, `patina_error_coords` and
#' `patina_error_names`; values that are not counts, unless `normalization = "none"`, `patina_error_counts`;
#' an `approximation` that cannot serve the kernels, or not within this machine's memory,
#' `patina_error_approximation`. With `BPPARAM`: `patina_error_tempdir` if the kernels cannot be written to
#' the temporary folder, `patina_error_workers` if no gene could be fitted. An error on a worker, or its
#' death, costs the genes of one block only, and so does a part of a file that cannot be read
#' (`patina_error_reading` if nothing can): a warning of class `patina_warning_failed_genes` names them.
#' `patina_error_timeout` if a limit of [setTimeLimit()] is reached. Periods of the PER kernel
#' that are too short for so many spots are left out with a warning of class `patina_warning_kernels`.
#'
#' @references
#' V. Svensson, S. A. Teichmann, O. Stegle (2018). SpatialDE: identification of spatially variable genes.
#' *Nature Methods* 15. \doi{10.1038/nmeth.4636}
#' @seealso [model_search()], [spatial_patterns()], [plot_test()], [add_results()]
#' @export
#' @examples
#' tissue <- example_tissue()
#' spatial_test(tissue$counts, tissue$sample_info[c("x", "y")], threads = 1)
spatial_test <- function(
  x,
  coords = NULL,
  ...,
  normalization = c("pearson", "anscombe", "none"),
  covariates = NULL,
  size_factors = NULL,
  depth = c("auto", "shrunk", "regression", "offset"),
  kernels = "SE",
  lengthscales = NULL,
  pval_method = c("calibrated", "spatialde"),
  pi0 = NULL,
  approximation = c("auto", "exact", "pivoted_cholesky", "krylov", "grid"),
  fit = c("auto", "likelihood", "moments"),
  likelihood_genes = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  threads = NULL,
  BPPARAM = NULL, # nolint: object_name_linter.
  progress = interactive()
) {
  from <- source_options(...)
  settings <- new_settings(normalization, covariates, size_factors, depth)
  pval_method <- checked(rlang::arg_match(pval_method))
  approximation <- checked(rlang::arg_match(approximation))
  fit <- checked(rlang::arg_match(fit))
  check_pi0(pi0)
  run <- new_run(threads, BPPARAM, progress)
  check_fit(fit, pval_method, approximation, run$call)
  likelihood_genes <- check_likelihood_genes(likelihood_genes, run$call)
  if (!is.null(results_for_coords(coords, NULL, run$call)$genes)) {
    abort_patina(
      c(
        "{.arg coords} is a table of results: it has a column {.field gene}.",
        i = "All genes of {.arg x} are tested. To test some of them, give those rows (or columns) of it."
      ),
      class = "coords"
    )
  }

  prepared <- prepare(x, coords, assay, from, sample_info, sample_id, settings, run)
  if (pval_method == "spatialde") {
    lengthscales <- lengthscales %||% "spatialde"
  }
  kernels <- kernel_table(kernels, lengthscales, prepared$input, run$call)
  test <- test_genes(prepared, kernels, pval_method, approximation, fit, pi0, likelihood_genes)
  report_depth(test$depth)
  new_result(
    test$result,
    "patina_test",
    prepared$input,
    kernels = test$kernels,
    approximation = approximation,
    normalization = settings$normalization,
    covariates = formula_text(settings$covariates),
    depth_setting = settings$depth,
    pval_method = pval_method,
    qvalues = test$qvalues,
    depth = test$depth,
    # not without being watched: otherwise the same call gives the same object
    seconds = if (progress) proc.time()[["elapsed"]] - run$started
  )
}

#' The test of all genes
#'
#' @param prepared From `prepare()`.
#' @param kernels From `kernel_table()`.
#' @param pi0 See `test_qvalues()`.
#' @param likelihood_genes From `check_likelihood_genes()`.
#' @returns A list: `result`, the tibble that `spatial_test()` documents; `kernels`, what was fitted;
#'   `qvalues`, how they were made; `depth`, see `describe_depth()`.
#' @noRd
test_genes <- function(
  prepared,
  kernels,
  pval_method,
  approximation,
  fit = "auto",
  pi0 = NULL,
  likelihood_genes = 0
) {
  input <- prepared$input
  calibrated <- pval_method == "calibrated" && enough_spots(input)
  shared <- pval_method != "spatialde"
  if (!calibrated && fit == "auto") {
    # moments are of the forms that p-values are made of
    fit <- "likelihood"
  }
  fitter <- prepare_fitter(input, kernels, calibrated, approximation, prepared$run, fit, shared)
  n <- length(fitter$spots$order)
  fits <- fit_genes(fitter, prepared)

  p <- if (pval_method == "spatialde") {
    spatialde_pvalues(fits$llr, n)
  } else {
    fits[c("pval", "log10_pval")]
  }
  q <- test_qvalues(p$pval, pval_method, pi0, prepared$run$call)
  if (likelihood_genes > 0) {
    fits <- fit_best_by_likelihood(
      fits,
      fitter,
      prepared,
      q$qval,
      p$log10_pval,
      likelihood_genes,
      shared
    )
  }
  report_non_finite(input, fits$status)
  tested <- fits$status == "ok"
  status <- ifelse(tested & is.na(p$pval), "no p-value", fits$status)
  few <- attr(prepared$normalizer, "few")
  if (!is.null(few)) {
    status[few & status == "ok"] <- "few counts"
  }
  kernel <- fits$kernel
  # what one looks at first comes first, so that it is what print() has room for
  result <- tibble::tibble(
    gene = input$genes,
    status = status,
    lengthscale = fitter$kernels$lengthscale[kernel],
    fsv = fits$fsv,
    llr = fits$llr,
    pval = p$pval,
    qval = q$qval,
    rank = rank(p$log10_pval, ties.method = "min", na.last = "keep"),
    n = n,
    model = fitter$kernels$model[kernel],
    fsv_se = fits$fsv_se,
    fsv_lower = fits$fsv_lower,
    fsv_upper = fits$fsv_upper,
    log10_pval = p$log10_pval,
    delta = exp(fits$log_delta),
    mean = fits$mean,
    var_spatial = fits$var_spatial,
    var_noise = fits$var_noise,
    loglik = fits$loglik,
    loglik_null = fits$loglik_null,
    bic = fits$bic,
    fit = ifelse(tested, fits$by, NA_character_)
  )
  list(
    result = result,
    kernels = fitter$description,
    qvalues = q[c("method", "pi0")],
    depth = describe_depth(prepared, fitter)
  )
}

# So many genes show which spots have no values at all.
shown_genes_of_spots <- 20L

#' Say which spots have no finite values, if these leave no gene to test
#' @noRd
report_non_finite <- function(input, status) {
  if (!all(status == "non-finite")) {
    return(invisible())
  }
  block <- input_block(input, utils::head(seq_along(status), shown_genes_of_spots))
  bad <- which(rowSums(is.finite(block)) == 0)
  if (length(bad) > 0L) {
    warn_patina(
      c(
        "No gene can be tested: {length(bad)} spot{?s} {?has/have} no finite value in any of them,
          {.val {first_few(input$spots[bad])}}.",
        i = "Remove {cli::qty(length(bad))}{?it/them} from {.arg x} and {.arg coords}."
      ),
      class = "non_finite_spots"
    )
  }
}

#' Can variances and lengthscales come from what is asked for?
#'
#' Moments are those that calibrated p-values are made of; SpatialDE's p-values are made of likelihoods.
#' @noRd
check_fit <- function(fit, pval_method, approximation, call) {
  if (fit == "moments" && pval_method != "calibrated") {
    abort_patina(
      c(
        "{.code pval_method = \"{pval_method}\"} needs likelihoods, and {.code fit = \"moments\"} has none.",
        i = "Use {.code fit = \"likelihood\"}, or {.code pval_method = \"calibrated\"}."
      ),
      class = "argument",
      call = call
    )
  }
  if (approximation == "grid" && (fit == "likelihood" || pval_method != "calibrated")) {
    abort_patina(
      c(
        "{.code approximation = \"grid\"} has no likelihoods, only what calibrated p-values and
          {.code fit = \"moments\"} need.",
        i = "Use {.code approximation = \"auto\"}, which takes for each kernel what serves it."
      ),
      class = "approximation",
      call = call
    )
  }
}

#' The test that model_search() and spatial_patterns() do first if they are given no genes
#' @noRd
test_before <- function(prepared, approximation) {
  kernels <- kernel_table("SE", NULL, prepared$input, prepared$run$call)
  test_genes(prepared, kernels, "calibrated", approximation, "auto")$result
}

#' SpatialDE's p-values: its likelihood of the constant model has n - 1 in the variance's denominator
#' @noRd
spatialde_pvalues <- function(llr, n) {
  statistic <- llr + (n * log(n / (n - 1)) - 1) / 2
  log10_pval <- stats::pchisq(statistic, 1, lower.tail = FALSE, log.p = TRUE) / log(10)
  list(pval = pmax(10^log10_pval, .Machine$double.xmin), log10_pval = log10_pval)
}

#' Permutation moments need 7 spots in every sample
#' @noRd
enough_spots <- function(input) {
  sizes <- sample_order(input)$sizes
  few <- sizes < 7L
  samples <- levels(input$sample_id)[few]
  if (any(few)) {
    warn_patina(
      c(
        "Calibrated p-values need at least 7 spots in every sample; the smallest has {min(sizes)}.",
        i = "The fits are returned without p-values. {.code pval_method = \"spatialde\"} gives
          approximate ones.",
        i = if (!all(few)) {
          "Or leave out {cli::qty(length(samples))}sample{?s} {.val {first_few(samples)}}."
        }
      ),
      class = "few_spots"
    )
  }
  !any(few)
}
