# The picture of a test: the fraction of spatial variance against the p-value.

#' Plot the test: fraction of spatial variance against p-value
#'
#' Significant genes are on top, the spatial ones on the right. Points are the larger the more certain
#' their fraction of spatial variance is, by the width of its 95 % interval. The dashed line is the
#' largest p-value that passes the false discovery rate. The axis is made from `log10_pval`, so p-values
#' far below the smallest double have their place. Genes that are no hits are drawn as points up to
#' 2,000 of them, beyond as a density: tiles, the darker the more genes they hold.
#'
#' @param results Result of [spatial_test()], possibly filtered. Genes without a p-value are left
#'   out.
#' @param models Result of [model_search()], to colour hits by the kind of function they follow.
#' @param ... Passed on to the points' geom, for instance `alpha`.
#' @param fdr False discovery rate: genes with `qval` below it are hits.
#' @param n_labels How many hits to label, smallest p-values first. Labels avoid each other if the
#'   package ggrepel is installed; otherwise those that would overlap are left out.
#' @param pseudo_genes Names in `results` that are not genes, such as a technical factor that was
#'   tested beside them: drawn as crosses, always labelled.
#' @return A ggplot object. Its data are `results` without untested genes and with the columns
#'   `neg_log10_pval`, `group` (colour), `pseudo` and `crowd` (whether it is drawn in the density) added.
#'
#' @section Errors:
#' `patina_error_argument` if `results` or `models` lacks the columns needed, if no gene in
#' `results` has a p-value, or if an argument does not make sense.
#'
#' @examples
#' tissue <- example_tissue()
#' results <- spatial_test(tissue$counts, tissue$sample_info[c("x", "y")], threads = 1)
#' plot_test(results, n_labels = 5)
#'
#' # A ggplot object like any other
#' plot_test(results, n_labels = 0) + ggplot2::ggtitle("A simulated tissue")
#' @export
plot_test <- function(
  results,
  models = NULL,
  ...,
  fdr = 0.05,
  n_labels = 10,
  pseudo_genes = "log_total_count"
) {
  numeric <- c("fsv", "log10_pval", "qval")
  check_columns(results, c("gene", numeric), "results", numeric = c(numeric, "fsv_se"))
  check_number(fdr, \(x) x > 0 && x < 1, "between 0 and 1")
  check_whole_number(n_labels, min = 0)
  data <- test_points(results, models, fdr, pseudo_genes)
  points <- data[!data$pseudo & !data$crowd, ]
  pseudo <- data[data$pseudo, ]

  ggplot2::ggplot(data, ggplot2::aes(x = .data$fsv, y = .data$neg_log10_pval)) +
    density_layers(data[data$crowd, ], height = max(data$neg_log10_pval)) +
    ggplot2::geom_point(
      ggplot2::aes(colour = .data$group, size = .data$uncertainty),
      data = points,
      stroke = 0,
      ...
    ) +
    colour_layers(points, models) +
    ggplot2::scale_size_continuous(
      name = "95 % interval\nof FSV",
      range = c(3.5, 0.6),
      limits = c(0, 1),
      breaks = c(0.1, 0.3, 0.6, 1),
      guide = ggplot2::guide_legend(order = 2, override.aes = list(colour = "grey40"))
    ) +
    ggplot2::scale_x_continuous(limits = c(0, NA)) +
    ggplot2::scale_y_continuous(
      breaks = function(limits) unique(round(pretty(limits))),
      labels = function(breaks) {
        parse(text = ifelse(breaks == 0, "1", paste0("10^-", breaks)))
      }
    ) +
    ggplot2::labs(x = "fraction of spatial variance (FSV)", y = "p-value") +
    theme_patina() +
    threshold_layers(fdr_threshold(data, fdr), fdr) +
    (if (nrow(pseudo) > 0L) ggplot2::geom_point(data = pseudo, shape = 4, size = 3, stroke = 1.2)) +
    label_layer(labelled_points(points, pseudo, n_labels))
}

#' Colours of the groups, with a legend; nothing without points
#' @noRd
colour_layers <- function(points, models) {
  if (nrow(points) == 0L) {
    return(NULL)
  }
  ggplot2::scale_colour_manual(
    name = if (is.null(models)) "gene" else "model",
    values = group_colours(points$group),
    labels = group_labels(points$group),
    guide = ggplot2::guide_legend(order = 1, override.aes = list(size = 3))
  )
}

# Genes without a signal beyond this number are drawn as a density: their points would only cover each other.
max_single_points <- 2000L

#' Many genes as tiles, the darker the more of them; nothing without genes
#' @noRd
density_layers <- function(crowd, height) {
  if (nrow(crowd) == 0L) {
    return(NULL)
  }
  number <- count_text(nrow(crowd))
  list(
    ggplot2::geom_bin_2d(
      ggplot2::aes(fill = ggplot2::after_stat(.data$count)),
      data = crowd,
      breaks = list(
        x = tile_edges(crowd$fsv, 60),
        # tiles of about the same height whatever the hits' p-values, but never a few bars
        y = tile_edges(crowd$neg_log10_pval, max(60 * max(crowd$neg_log10_pval) / height, 15))
      )
    ),
    ggplot2::scale_fill_gradient(
      name = paste0("not significant:\n", number, ", in a tile"),
      low = "grey92",
      high = "grey35",
      trans = "log10",
      guide = ggplot2::guide_colourbar(order = 3, barheight = ggplot2::unit(4, "lines"))
    )
  )
}

#' Edges of tiles from 0 to the largest value
#' @noRd
tile_edges <- function(values, n) {
  seq(0, max(values, 1e-6), length.out = ceiling(n) + 1)
}

#' The genes that have a place in the picture, those to be drawn on top last
#' @noRd
test_points <- function(results, models, fdr, pseudo_genes, call = rlang::caller_env()) {
  data <- tibble::as_tibble(as.data.frame(results))
  data <- data[!is.na(data$log10_pval) & !is.na(data$fsv), ]
  if (nrow(data) == 0L) {
    abort_patina(
      c(
        "{.arg results} has no gene with a p-value: there is nothing to plot.",
        i = "Was it filtered? Column {.field status} says why a gene was not tested."
      ),
      class = "argument",
      call = call
    )
  }
  data$uncertainty <- interval_width(data)
  data$neg_log10_pval <- -data$log10_pval
  data$pseudo <- data$gene %in% pseudo_genes
  hit <- !is.na(data$qval) & data$qval < fdr
  data$group <- test_groups(data, hit & !data$pseudo, models, call)
  others <- data$group == "other" & !data$pseudo
  data$crowd <- others & sum(others) > max_single_points
  data[order(-as.integer(data$group), data$neg_log10_pval), ]
}

#' Width of the interval of fsv, at most 1; where it is unknown it is shown as uncertain as can be
#' @noRd
interval_width <- function(data) {
  width <- if (all(c("fsv_lower", "fsv_upper") %in% names(data))) {
    data$fsv_upper - data$fsv_lower
  } else {
    2 * stats::qnorm(0.975) * (data[["fsv_se"]] %||% NA_real_)
  }
  ifelse(is.na(width), 1, pmin(width, 1))
}

#' Groups that colour the points of plot_test(), as a factor whose first levels are drawn on top
#' @noRd
test_groups <- function(data, hit, models, call) {
  if (is.null(models)) {
    return(factor(ifelse(hit, "significant", "other"), c("significant", "other")))
  }
  check_columns(models, c("gene", "model"), "models", call)
  model <- as.character(models$model)[match(data$gene, models$gene)]
  model[is.na(model)] <- "no model"
  known <- kernel_models[kernel_families$search]
  levels <- c(known, sort(setdiff(model[hit], c(known, "no model"))), "no model", "other")
  factor(ifelse(hit, model, "other"), levels)
}

#' Colours that colour-blind readers can tell apart (Okabe and Ito), hits in colour, others grey
#' @noRd
group_colours <- function(group) {
  colours <- c(
    stats::setNames(kernel_families$colour, kernel_models),
    "no model" = "grey30",
    significant = "#0072B2",
    other = "grey75"
  )
  new <- setdiff(levels(group), names(colours))
  c(colours, stats::setNames(rep_len(c("#CC79A7", "#E69F00", "#56B4E9"), length(new)), new))
}

#' Labels with the number of genes in each group
#' @noRd
group_labels <- function(group) {
  names <- c(
    stats::setNames(kernel_families$label, kernel_models),
    "no model" = "hit without model",
    other = "not significant"
  )
  shown <- levels(group)
  known <- shown %in% names(names)
  text <- ifelse(known, names[shown], shown)
  stats::setNames(paste0(text, ": ", count_text(c(table(group)))), shown)
}

#' Height of the line between hits and the rest: halfway between them, NULL if there are no hits
#' @noRd
fdr_threshold <- function(data, fdr) {
  hit <- !is.na(data$qval) & data$qval < fdr
  if (!any(hit)) {
    return(NULL)
  }
  last <- min(data$neg_log10_pval[hit])
  next_one <- data$neg_log10_pval[!hit & data$neg_log10_pval < last]
  if (length(next_one) == 0L) last else (last + max(next_one)) / 2
}

#' The line of the false discovery rate, nothing without hits
#' @noRd
threshold_layers <- function(threshold, fdr) {
  if (is.null(threshold)) {
    return(NULL)
  }
  list(
    ggplot2::geom_hline(yintercept = threshold, linetype = "dashed", colour = "grey40"),
    ggplot2::annotate(
      "text",
      x = Inf,
      y = threshold,
      label = sprintf("FDR %s%%", format(100 * fdr)),
      hjust = 1.1,
      vjust = -0.6,
      size = 3,
      colour = "grey40"
    )
  )
}

#' Points with their labels: the first hits and all pseudo-genes
#'
#' Other hits have an empty one: labels are to keep clear of them too.
#' @noRd
labelled_points <- function(points, pseudo, n_labels) {
  hits <- points[points$group != "other", ]
  around <- utils::head(hits[order(hits$log10_pval), ], 500L)
  around$label <- ifelse(seq_len(nrow(around)) <= n_labels, around$gene, "")
  pseudo$label <- pseudo$gene
  rbind(around, pseudo)
}

#' Names beside points, none on top of another; nothing if there are none
#' @noRd
label_layer <- function(data, repel = rlang::is_installed("ggrepel")) {
  if (!any(nzchar(data$label))) {
    return(NULL)
  }
  mapping <- ggplot2::aes(label = .data$label)
  face <- ifelse(data$pseudo, "plain", "italic")
  if (repel) {
    return(ggrepel::geom_text_repel(
      mapping,
      data = data,
      size = 3,
      fontface = face,
      seed = 1,
      bg.colour = "white",
      bg.r = 0.1,
      max.overlaps = Inf,
      # strong forces within little room keep labels apart in short pictures too
      box.padding = 0.25,
      force = 5,
      force_pull = 0.3,
      # iterations, not time, so that a picture is the same on every machine
      max.iter = 20000,
      max.time = Inf,
      point.padding = 0.2,
      min.segment.length = 0.2,
      segment.colour = "grey60"
    ))
  }
  ggplot2::geom_text(
    mapping,
    data = data,
    size = 3,
    fontface = face,
    check_overlap = TRUE,
    vjust = -0.8
  )
}
