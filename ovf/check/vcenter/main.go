// Imports an OVF package into the vCenter simulator of govmomi, once for each deployment option given, the way
// vCenter's clients do: import specification, lease, upload of each file, completion. Prints, as JSON, what the
// simulated vCenter then has. Built by ovf/check/outside.py from Debian's sources of govmomi.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type fileItem struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

type machine struct {
	Option    string     `json:"option"`
	Errors    []string   `json:"errors"`
	Files     []fileItem `json:"files"`
	Uploaded  []fileItem `json:"uploaded"`
	GuestID   string     `json:"guest"`
	Version   string     `json:"version"`
	CPUs      int32      `json:"cpus"`
	MemoryMB  int32      `json:"memory"`
	Devices   []string   `json:"devices"`
	Disks     []int64    `json:"disks"`
	Networks  []string   `json:"networks"`
	Extra     []string   `json:"extra"`
	EulaBytes int        `json:"eula"`
	Keys      []string   `json:"keys"`
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: vcenter NAME.ovf OPTION...")
		os.Exit(2)
	}
	found, err := run(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "vcenter:", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
}

func run(file string, options []string) ([]machine, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	model := simulator.VPX()
	defer model.Remove()
	if err := model.Create(); err != nil {
		return nil, err
	}
	model.Service.TLS = new(tls.Config)
	server := model.Service.NewServer()
	defer server.Close()
	ctx := context.Background()
	client, err := govmomi.NewClient(ctx, server.URL, true)
	if err != nil {
		return nil, err
	}
	var found []machine
	for _, option := range options {
		one, err := importOne(ctx, client, file, string(text), option)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		found = append(found, one)
	}
	return found, nil
}

func importOne(ctx context.Context, client *govmomi.Client, file, text, option string) (machine, error) {
	result := machine{Option: option}
	finder := find.NewFinder(client.Client)
	center, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return result, err
	}
	finder.SetDatacenter(center)
	pool, err := finder.ResourcePool(ctx, "DC0_C0/Resources")
	if err != nil {
		return result, err
	}
	store, err := finder.DefaultDatastore(ctx)
	if err != nil {
		return result, err
	}
	folders, err := center.Folders(ctx)
	if err != nil {
		return result, err
	}
	network, err := finder.Network(ctx, "VM Network")
	if err != nil {
		return result, err
	}
	envelope, err := ovf.Unmarshal(strings.NewReader(text))
	if err != nil {
		return result, err
	}
	params := types.OvfCreateImportSpecParams{
		OvfManagerCommonParams: types.OvfManagerCommonParams{DeploymentOption: option},
		EntityName:             "imported-" + option,
	}
	for _, each := range envelope.Network.Networks {
		mapping := types.OvfNetworkMapping{Name: each.Name, Network: network.Reference()}
		params.NetworkMapping = append(params.NetworkMapping, mapping)
	}
	for _, product := range envelope.VirtualSystem.Product {
		for _, property := range product.Property {
			result.Keys = append(result.Keys, property.Key)
			value := types.KeyValue{Key: property.Key, Value: "value of " + property.Key}
			params.PropertyMapping = append(params.PropertyMapping, value)
		}
	}
	for _, eula := range envelope.VirtualSystem.Eula {
		result.EulaBytes += len(eula.License)
	}
	spec, err := ovf.NewManager(client.Client).CreateImportSpec(ctx, text, pool, store, params)
	if err != nil {
		return result, err
	}
	for _, fault := range spec.Error {
		result.Errors = append(result.Errors, fault.LocalizedMessage)
	}
	if len(result.Errors) != 0 {
		return result, nil
	}
	for _, item := range spec.FileItem {
		result.Files = append(result.Files, fileItem{item.Path, item.Size})
	}
	reference, err := upload(ctx, pool, folders.VmFolder, spec, filepath.Dir(file), &result)
	if err != nil {
		return result, err
	}
	return result, describe(ctx, client, *reference, &result)
}

func upload(ctx context.Context, pool *object.ResourcePool, folder *object.Folder,
	spec *types.OvfCreateImportSpecResult, base string, result *machine) (*types.ManagedObjectReference, error) {
	lease, err := pool.ImportVApp(ctx, spec.ImportSpec, folder, nil)
	if err != nil {
		return nil, err
	}
	info, err := lease.Wait(ctx, spec.FileItem)
	if err != nil {
		return nil, err
	}
	// It takes the progress that each upload reports; without it they stand still.
	updater := lease.StartUpdater(ctx, info)
	defer updater.Done()
	for _, item := range info.Items {
		source, err := os.Open(filepath.Join(base, item.Path))
		if err != nil {
			return nil, err
		}
		status, err := source.Stat()
		if err == nil {
			err = lease.Upload(ctx, item, source, soap.Upload{ContentLength: status.Size()})
		}
		source.Close()
		if err != nil {
			return nil, err
		}
		result.Uploaded = append(result.Uploaded, fileItem{item.Path, status.Size()})
	}
	return &info.Entity, lease.Complete(ctx)
}

func describe(ctx context.Context, client *govmomi.Client, ref types.ManagedObjectReference, result *machine) error {
	var created mo.VirtualMachine
	if err := object.NewVirtualMachine(client.Client, ref).Properties(ctx, ref, []string{"config"}, &created); err != nil {
		return err
	}
	config := created.Config
	result.GuestID, result.Version = config.GuestId, config.Version
	result.CPUs, result.MemoryMB = config.Hardware.NumCPU, config.Hardware.MemoryMB
	for _, extra := range config.ExtraConfig {
		option := extra.GetOptionValue()
		if strings.HasPrefix(option.Key, "guestinfo.postkeep.") {
			result.Extra = append(result.Extra, fmt.Sprintf("%s=%v", option.Key, option.Value))
		}
	}
	for _, device := range config.Hardware.Device {
		switch d := device.(type) {
		case *types.VirtualDisk:
			result.Disks = append(result.Disks, d.CapacityInKB*1024)
		case types.BaseVirtualEthernetCard:
			card := d.GetVirtualEthernetCard()
			if backing, ok := card.Backing.(*types.VirtualEthernetCardNetworkBackingInfo); ok {
				result.Networks = append(result.Networks, backing.DeviceName)
			}
		}
		result.Devices = append(result.Devices, strings.TrimPrefix(fmt.Sprintf("%T", device), "*types."))
	}
	return nil
}
