# SPDX-License-Identifier: Apache-2.0
# Sourced after bed.sh: the bed's keys, certificates and kubeconfigs. They last as long as the bed.

authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature \
    -keyout "$1.key" -out "$1.crt" 2> /dev/null
}

# certificate NAME AUTHORITY SUBJECT USAGE [NAMES]
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$3" \
    -keyout "$1.key" -out "$1.csr" 2> /dev/null
  {
    echo keyUsage=critical,digitalSignature,keyEncipherment
    echo "extendedKeyUsage=$4"
    [[ -z ${5:-} ]] || echo "subjectAltName=$5"
  } > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 365 \
    -extfile "$1.ext" -out "$1.crt" 2> /dev/null
  rm "$1.csr" "$1.ext"
}

# kubeconfig CERTIFICATE SERVER OUT: with the keys in it, so that it works anywhere.
kubeconfig() {
  local name=$1 server=$2 out=$3 pki=$state/pki
  cat > "$out" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: bed
  cluster:
    server: $server
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: $name
  user:
    client-certificate-data: $(base64 -w0 "$pki/$name.crt")
    client-key-data: $(base64 -w0 "$pki/$name.key")
contexts:
- name: bed
  context: {cluster: bed, user: $name}
current-context: bed
YAML
  chmod 600 "$out"
}

make_pki() (
  mkdir -p "$state"/{pki,kubeconfigs}
  cd "$state/pki"
  umask 077
  authority ca
  authority front-proxy-ca
  openssl genrsa -out sa.key 2048 2> /dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
  local here=IP:127.0.0.1,IP:$host_address,DNS:localhost
  certificate apiserver ca /CN=kube-apiserver serverAuth \
    "$here,DNS:kubernetes.default.svc,IP:10.96.0.1"
  certificate crd-server ca /CN=crd-server serverAuth "$here,DNS:crd-server.kube-system.svc"
  certificate admin ca /O=system:masters/CN=admin clientAuth
  certificate kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate controller-manager ca /CN=system:kube-controller-manager clientAuth
  certificate scheduler ca /CN=system:kube-scheduler clientAuth
  certificate front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
  local component
  for component in admin controller-manager scheduler; do
    kubeconfig "$component" "https://127.0.0.1:$api_port" "$state/kubeconfigs/$component"
  done
  kubeconfig admin "https://127.0.0.1:$api_port" "$state/kubeconfig"
)

# make_node_pki: those of the node that is meant.
make_node_pki() (
  cd "$state/pki"
  umask 077
  certificate "$node" ca "/O=system:nodes/CN=system:node:$node" clientAuth,serverAuth \
    "DNS:$node,IP:$node_address,IP:127.0.0.1"
  kubeconfig "$node" "https://$host_address:$api_port" "$state/kubeconfigs/$node"
)
