# An image from a distribution's own, with Slipway and a trust root in it; see README.md.
#
#   packer init .
#   packer build -var region=eu-central-1 -var trust_root=root.json -var 'packages=["slipway_0.1.0~debian12_amd64.deb"]' .

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.8"
    }
  }
}

variable "region" {
  type        = string
  description = "Where the image is made."
}

variable "os" {
  type        = string
  default     = "debian-12"
  description = "What it is made from: debian-12, ubuntu-24.04 or al2023; the packages must be for that."
}

variable "architecture" {
  type        = string
  default     = "x86_64"
  description = "x86_64 or arm64; the packages must be for that, too."
}

variable "packages" {
  type        = list(string)
  description = "Files: slipway's .deb or .rpm, and others that the image is to have."
}

variable "trust_root" {
  type        = string
  description = "root.json, from slipway-publish trust init."
}

variable "agent_json" {
  type        = string
  default     = ""
  description = "/etc/slipway/agent.json; empty: instances find their work by their tags."
}

variable "bake" {
  type        = bool
  default     = false
  description = "Deploys while the image is made what build_tags or agent_json say, and leaves it in the image."
}

variable "build_tags" {
  type        = map(string)
  default     = {}
  description = "With bake: slipway:store, slipway:app and slipway:channel."
}

variable "instance_profile" {
  type        = string
  default     = ""
  description = "With bake: with the rights of packaging/aws/instance-role.json."
}

variable "instance_type" {
  type        = string
  default     = ""
  description = "Of the machine that the image is made on; empty: t3.small or t4g.small."
}

variable "name" {
  type        = string
  default     = "slipway"
  description = "How the image's name begins."
}

locals {
  # The accounts are Debian's, Canonical's and Amazon's own: names alone could be anybody's.
  deb_architecture = var.architecture == "arm64" ? "arm64" : "amd64"
  sources = {
    "debian-12" = {
      owner = "136693071363"
      name  = "debian-12-${local.deb_architecture}-*"
      user  = "admin"
    }
    "ubuntu-24.04" = {
      owner = "099720109477"
      name  = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-${local.deb_architecture}-server-*"
      user  = "ubuntu"
    }
    "al2023" = {
      owner = "amazon"
      name  = "al2023-ami-2023.*-kernel-6.1-${var.architecture}"
      user  = "ec2-user"
    }
  }
  source    = local.sources[var.os]
  stamp     = formatdate("YYYYMMDD-hhmmss", timestamp())
  directory = "/tmp/slipway-ami"
  files     = concat(["${path.root}/provision", var.trust_root], compact([var.agent_json]), var.packages)
  arguments = concat(
    ["--trust", "${local.directory}/${basename(var.trust_root)}"],
    var.agent_json == "" ? [] : ["--agent", "${local.directory}/${basename(var.agent_json)}"],
    var.bake ? ["--bake"] : [],
    [for package in var.packages : "${local.directory}/${basename(package)}"]
  )
}

source "amazon-ebs" "slipway" {
  region               = var.region
  instance_type        = var.instance_type != "" ? var.instance_type : var.architecture == "arm64" ? "t4g.small" : "t3.small"
  iam_instance_profile = var.instance_profile
  ssh_username         = local.source.user
  ami_name             = "${var.name}-${var.os}-${var.architecture}-${local.stamp}"
  ami_description      = "Slipway on ${var.os}; finds its work by the tags slipway:store, slipway:app and slipway:channel"
  # instances of the image take IMDSv2 alone, unless who starts them says otherwise; exposing their tags can't be said here
  imds_support = "v2.0"
  run_tags     = merge({ Name = "${var.name}-build" }, var.build_tags)
  tags         = { Name = var.name, Base = "{{ .SourceAMIName }}" }

  source_ami_filter {
    owners      = [local.source.owner]
    most_recent = true
    filters = {
      name                = local.source.name
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }
}

build {
  sources = ["source.amazon-ebs.slipway"]

  # cloud-init may still be about apt's sources
  provisioner "shell" {
    inline = [
      "sudo cloud-init status --wait || true",
      "mkdir -m 0700 ${local.directory}",
    ]
  }

  # What the applications need goes here: their users, their units, other packages.

  provisioner "file" {
    sources     = local.files
    destination = "${local.directory}/"
  }

  # The last one: it removes what lets anybody in, the key of this build included.
  provisioner "shell" {
    inline = [
      "sudo bash ${local.directory}/provision ${join(" ", formatlist("'%s'", local.arguments))}",
      "rm -rf ${local.directory}",
    ]
  }
}
