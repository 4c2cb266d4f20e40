# Which genes go together in space: cross-correlations of all pairs, and modules of genes.

#' Spatial correlation of genes, and modules
#'
#' How alike two genes are over the tissue, for all pairs at once: the sum over pairs of near spots of one
#' gene's value at the first times the other's at the second, `T = y_i' K y_j`. K is a squared exponential
#' kernel without its diagonal, so noise that two genes share within a spot does not count; and the
#' correlation `T_ij / sqrt(T_ii T_jj)` is that of the genes' spatial parts, not diluted by noise.
#'
#' P-values come from the moments of T when one gene's values are permuted over the spots of each sample,
#' the other's left where they are (the larger of the two variances counts), and a normal distribution: they
#' ask whether the genes are related at all. Two smooth genes that have nothing to do with each other may be
#' alike by chance more often than that, because neighbouring spots repeat each other: for pairs of strongly
#' spatial genes go by the size of `correlation`.
#'
#' @section Modules:
#' Genes are joined from below, by average linkage on 1 - correlation. A cluster is a module as soon as it
#' has `min_genes`. Single genes and smaller clusters join it while their mean correlation is 0.3 or more. Two
#' modules become one if their means correlate by 0.7 or more, so that each explains half of the other's
#' variance (the correlation of means is known from that of genes: the mean between the two modules over the
#' geometric mean within them); otherwise both stay as they are, and nothing joins them any more. DeTomaso and
#' Yosef (2021) join and stop in this way too, at a false discovery rate; significance grows with the number
#' of spots, alikeness does not. Genes whose T with itself is below three standard deviations have no spatial
#' part that could be told from noise: they may join a module, but make none. In simulations of 3 to 10
#' modules (`bench/modules.R`) the number found is off by 0.2 to 0.9 on average; the number with the largest
#' silhouette by 0.1 if every gene belongs to one module, and by 3 to 8 if genes belong to two or to none.
#'
#' With `n_modules`, the tree is cut into so many clusters; of several numbers the one with the largest mean
#' silhouette is taken, which tends to few modules if they have opposites.
#'
#' @inheritParams spatial_test
#' @param genes The genes: names, or a result of [spatial_test()], perhaps filtered (if it has all genes of
#'   `x`, those with `qval` below 0.05 are taken). `NULL` runs [spatial_test()] first.
#' @param lengthscale Of the kernel, in units of `coords`; by default 1.5 typical distances between
#'   neighbouring spots. Pairs beyond three lengthscales do not count.
#' @param n_modules Number of clusters to cut the tree into, or several to choose from. `NULL` finds modules
#'   from below, see *Modules*.
#' @param min_genes Clusters with fewer genes are no module; by default 10, or a tenth of fewer than 100
#'   genes, but at least 3.
#' @returns An object of class `patina_correlation`, a list with the elements
#' * `correlation`: the symmetric matrix of correlations, genes × genes, from -1 to 1; a gene's T with itself
#'   counts as three of its standard deviations at least, so that noise is not divided by noise;
#' * `z`: T in standard deviations under permutation, `NA` on the diagonal;
#' * `pval`: two-sided p-values of z, `NA` on the diagonal;
#' * `modules`: a tibble of `gene`, `module` (1 has most genes; `NA`: none) and `silhouette` (from -1 to 1:
#'   how much nearer the gene is to its own module than to the next; `NA` for genes that joined none);
#' * `tree`: the [hclust][stats::hclust] tree of the genes;
#' * `choice`: a tibble of `n_modules` and the mean `silhouette`, if there was a choice;
#' * `lengthscale`, and `neighbours`, the mean number of spots near a spot.
#'
#' Genes that are constant or not finite are left out with a warning of class `patina_warning_genes`.
#' @section Errors:
#' `patina_error_argument` for an argument outside its range, among them a lengthscale at which no spots are
#' near each other; `patina_error_data` if fewer than two genes can be used; and those of reading `x`.
#' @references
#' D. DeTomaso, N. Yosef (2021). Hotspot identifies informative gene modules across modalities of single-cell
#' genomics. *Cell Systems* 12. \doi{10.1016/j.cels.2021.04.005}
#' @seealso [plot_modules()], [spatial_patterns()], [spatial_factors()]
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 200, n_genes = 80)
#' coords <- tissue$sample_info[c("x", "y")]
#' genes <- tissue$truth$gene[tissue$truth$pattern != "none"]
#' found <- gene_correlation(tissue$counts, coords, genes, threads = 1)
#' found
#' found$modules
gene_correlation <- function(
  x,
  coords = NULL,
  genes = NULL,
  lengthscale = NULL,
  ...,
  n_modules = NULL,
  min_genes = NULL,
  assay = "counts",
  normalization = c("pearson", "anscombe", "none"),
  covariates = NULL,
  size_factors = NULL,
  depth = c("auto", "shrunk", "regression", "offset"),
  sample_info = NULL,
  sample_id = NULL,
  threads = NULL,
  progress = interactive()
) {
  from <- source_options(...)
  settings <- new_settings(normalization, covariates, size_factors, depth)
  run <- new_run(threads, progress = progress)
  if (!is.null(min_genes)) {
    check_whole_number(min_genes, 1, 1e6)
  }
  if (!is.null(lengthscale)) {
    check_number(lengthscale, \(x) x > 0 && x < Inf, "above 0")
  }
  given <- results_for_coords(coords, genes, run$call)
  prepared <- prepare(x, given$coords, assay, from, sample_info, sample_id, settings, run)
  input <- prepared$input
  chosen <- choose_genes(given$genes %||% test_before(prepared, "auto"), input, "genes", run$call)
  expression <- pattern_expression(prepared, chosen$index)
  genes <- chosen$genes[expression$usable]
  n <- length(genes)
  if (n < 2L) {
    abort_patina("Only one gene can be used: {.val {genes}}. There are no pairs.", class = "data")
  }
  n_modules <- check_n_modules(n_modules, n, run$call)
  min_genes <- min_genes %||% max(3, min(10, n %/% 10))
  spots <- sample_order(input)
  places <- input$coords[spots$order, , drop = FALSE]
  lengthscale <- lengthscale %||%
    (1.5 * call_rust(rust_spacing, places, spots$sizes, call = run$call))
  fit <- call_rust(
    rust_cross_correlations,
    places,
    spots$sizes,
    expression$y[spots$order, , drop = FALSE],
    as.double(lengthscale),
    run$threads,
    call = run$call
  )
  names <- list(genes, genes)
  dimnames(fit$correlation) <- dimnames(fit$z) <- names
  modules <- find_modules(fit$correlation, n_modules, min_genes, fit$own >= least_own)
  structure(
    list(
      correlation = fit$correlation,
      z = fit$z,
      pval = 2 * stats::pnorm(-abs(fit$z)),
      modules = modules$modules,
      tree = modules$tree,
      choice = modules$choice,
      lengthscale = lengthscale,
      neighbours = fit$neighbours,
      n_genes = length(input$genes)
    ),
    class = "patina_correlation"
  )
}

check_n_modules <- function(n_modules, n, call) {
  if (is.null(n_modules)) {
    return(NULL)
  }
  whole <- rlang::is_integerish(n_modules, finite = TRUE) && length(n_modules) > 0L
  if (!whole || any(n_modules < 1 | n_modules > n)) {
    abort_patina(
      "{.arg n_modules} must be whole numbers from 1 to the number of genes, {n}.",
      class = "argument",
      call = call
    )
  }
  sort(unique(as.integer(n_modules)))
}

# A gene that is less alike to itself nearby, in standard deviations, has no spatial part to share.
least_own <- 3
# Genes and clusters join a module if they correlate by so much with it on average.
least_alike <- 0.3
# Modules whose means correlate by so much are one: each explains half of the other's variance.
same_module <- 0.7

#' Modules by average linkage
#' @param spatial Which genes make a module that is found.
#' @returns A list: `modules`, `tree`, `choice`.
#' @noRd
find_modules <- function(correlation, n_modules, min_genes, spatial) {
  distance <- 1 - correlation
  tree <- stats::hclust(stats::as.dist(distance), "average")
  choice <- NULL
  if (is.null(n_modules)) {
    cluster <- join_modules(tree, min_genes, spatial)
    width <- rep(NA_real_, length(cluster))
    inside <- which(!is.na(cluster))
    width[inside] <- silhouettes(distance[inside, inside, drop = FALSE], cluster[inside])
  } else {
    cuts <- matrix(stats::cutree(tree, k = n_modules), ncol = length(n_modules))
    widths <- lapply(seq_along(n_modules), \(j) silhouettes(distance, cuts[, j]))
    scores <- vapply(widths, mean, 0)
    best <- which.max(scores)
    cluster <- cuts[, best]
    width <- widths[[best]]
    if (length(n_modules) > 1L) {
      choice <- tibble::tibble(n_modules = n_modules, silhouette = scores)
    }
  }
  size <- tabulate(cluster)
  first <- match(seq_along(size), cluster)
  rank <- order(-size, first)
  kept <- rank[size[rank] >= min_genes]
  list(
    modules = tibble::tibble(
      gene = rownames(correlation),
      module = match(cluster, kept),
      silhouette = width
    ),
    tree = tree,
    choice = choice
  )
}

#' Modules of a tree of average linkage, from below
#'
#' The height of a node is 1 less the mean correlation of its two sides, so nothing else is needed.
#' @param spatial Which genes make a module; others may join one, so that noise is none.
#' @returns A whole number for each gene, `NA` for those in no module.
#' @noRd
join_modules <- function(tree, min_genes, spatial) {
  n <- nrow(tree$merge) + 1L
  counted <- c(as.numeric(spatial), numeric(n - 1L))
  # genes come first, then the nodes in the order in which they were joined
  size <- c(rep(1, n), numeric(n - 1L))
  sum <- numeric(2L * n - 1L)
  kind <- c(rep("small", n), character(n - 1L))
  if (min_genes <= 1) {
    kind[seq_len(n)][spatial] <- "module"
  }
  sides <- ifelse(tree$merge < 0, -tree$merge, tree$merge + n)
  mean_within <- \(i) if (size[[i]] > 1) sum[[i]] / (size[[i]] * (size[[i]] - 1)) else 1
  for (i in seq_len(n - 1L)) {
    a <- sides[i, 1L]
    b <- sides[i, 2L]
    node <- n + i
    between <- 1 - tree$height[[i]]
    size[[node]] <- size[[a]] + size[[b]]
    counted[[node]] <- counted[[a]] + counted[[b]]
    sum[[node]] <- sum[[a]] + sum[[b]] + 2 * size[[a]] * size[[b]] * between
    pair <- kind[c(a, b)]
    means <- if (all(pair == "module")) between / sqrt(mean_within(a) * mean_within(b)) else 1
    kind[[node]] <- if (any(pair == "several") || between < least_alike || means < same_module) {
      "several"
    } else if (any(pair == "module") || counted[[node]] >= min_genes) {
      "module"
    } else {
      "small"
    }
  }
  module <- rep(NA_integer_, 2L * n - 1L)
  if (kind[[2L * n - 1L]] == "module") {
    module[[2L * n - 1L]] <- 2L * n - 1L
  }
  for (i in rev(seq_len(n - 1L))) {
    for (side in sides[i, ]) {
      module[[side]] <- if (!is.na(module[[n + i]])) {
        module[[n + i]]
      } else if (kind[[side]] == "module") {
        side
      } else {
        NA_integer_
      }
    }
  }
  match(module[seq_len(n)], unique(stats::na.omit(module[seq_len(n)])))
}

#' Silhouette widths (Rousseeuw 1987): 0 for a gene by itself
#' @noRd
silhouettes <- function(distance, cluster) {
  size <- tabulate(cluster)
  if (length(size) < 2L) {
    return(numeric(length(cluster)))
  }
  sums <- rowsum(distance, cluster)
  own <- cbind(cluster, seq_along(cluster))
  inside <- sums[own] / pmax(size[cluster] - 1, 1)
  means <- sums / size
  means[own] <- Inf
  outside <- apply(means, 2L, min)
  width <- (outside - inside) / pmax(inside, outside)
  ifelse(size[cluster] == 1L | !is.finite(width), 0, width)
}

#' @export
print.patina_correlation <- function(x, ...) {
  found <- max(x$modules$module, 0L, na.rm = TRUE)
  alone <- sum(is.na(x$modules$module))
  cli::cat_line(sprintf(
    "<patina_correlation> %d genes, %d module%s at lengthscale %s (%s neighbours)",
    nrow(x$modules),
    found,
    if (found == 1L) "" else "s",
    format(signif(x$lengthscale, 3)),
    format(round(x$neighbours))
  ))
  shown <- utils::head(seq_len(found), 15L)
  for (k in shown) {
    genes <- x$modules[x$modules$module %in% k, ]
    genes <- genes$gene[order(-genes$silhouette)]
    line <- sprintf("%3d: %4d  %s", k, length(genes), paste(utils::head(genes, 30L), collapse = ", "))
    cli::cat_line(cli::ansi_strtrim(line, cli::console_width()))
  }
  if (found > length(shown)) {
    cli::cat_line(sprintf("... and %d more", found - length(shown)))
  }
  if (alone > 0L) {
    cli::cat_line(sprintf("in no module: %d", alone))
  }
  invisible(x)
}

#' Plot the correlations of genes
#'
#' Genes in the order of their modules, those of a module in the order of the tree; at most `n_genes`, an
#' equal share of each module.
#'
#' @param correlation A result of [gene_correlation()].
#' @param ... Not used.
#' @param n_genes How many genes to show, at most.
#' @return A ggplot object.
#' @section Errors:
#' `patina_error_argument` if `correlation` is not a result of [gene_correlation()].
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 200, n_genes = 80)
#' coords <- tissue$sample_info[c("x", "y")]
#' genes <- tissue$truth$gene[tissue$truth$pattern != "none"]
#' plot_modules(gene_correlation(tissue$counts, coords, genes, threads = 1))
plot_modules <- function(correlation, ..., n_genes = 300) {
  checked(rlang::check_dots_empty())
  check_whole_number(n_genes, min = 2)
  if (!inherits(correlation, "patina_correlation")) {
    abort_patina(
      "{.arg correlation} must be a result of {.fun gene_correlation}, not
        {.obj_type_friendly {correlation}}.",
      class = "argument"
    )
  }
  place <- order(correlation$tree$order)
  module <- correlation$modules$module
  order <- order(module, place)
  if (length(order) > n_genes) {
    order <- order[unique(round(seq(1, length(order), length.out = n_genes)))]
  }
  module <- module[order]
  n <- length(order)
  values <- correlation$correlation[order, order]
  row <- rep(seq_len(n), times = n)
  column <- rep(seq_len(n), each = n)
  data <- tibble::tibble(
    row = row,
    column = column,
    gene = rownames(values)[row],
    other = rownames(values)[column],
    correlation = as.vector(values)
  )
  ends <- rle(ifelse(is.na(module), 0L, module))
  last <- cumsum(ends$lengths)
  middles <- last - ends$lengths / 2 + 0.5
  labels <- ifelse(ends$values == 0L, "none", ends$values)
  # small modules lie close together
  guide <- ggplot2::guide_axis(check.overlap = TRUE)
  ggplot2::ggplot(data, ggplot2::aes(.data$column, .data$row, fill = .data$correlation)) +
    ggplot2::geom_raster() +
    ggplot2::geom_hline(yintercept = last[-length(last)] + 0.5, linewidth = 0.2) +
    ggplot2::geom_vline(xintercept = last[-length(last)] + 0.5, linewidth = 0.2) +
    ggplot2::scale_fill_gradient2(
      low = "#2166AC",
      mid = "#F7F7F7",
      high = "#B2182B",
      limits = c(-1, 1),
      name = "spatial\ncorrelation"
    ) +
    ggplot2::scale_x_continuous(breaks = middles, labels = labels, expand = c(0, 0), guide = guide) +
    ggplot2::scale_y_reverse(breaks = middles, labels = labels, expand = c(0, 0), guide = guide) +
    ggplot2::coord_fixed() +
    ggplot2::labs(x = "module", y = "module") +
    theme_patina()
}
